# Stands in for postgres:17 where no registry answers: Debian 13's own PostgreSQL 17, as much as compose.yaml asks.
ARG BASE=debian:stable-slim
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql-17 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* \
    && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data \
    && install -d -o postgres -g postgres -m 2775 /var/run/postgresql
ENV PATH=/usr/lib/postgresql/17/bin:${PATH} PGDATA=/var/lib/postgresql/data
COPY postgres-start /usr/local/bin/postgres-start
USER postgres
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["postgres-start"]
