# llama.cpp's server for CPUs, from Debian's own package: built in about 90 seconds.
ARG BASE=debian:testing-slim
FROM ${BASE}

# A mirror may lag behind testing, whose index calls itself stale after a week; its signature is still checked.
RUN apt-get -o Acquire::Check-Valid-Until=false update \
    && apt-get install -y --no-install-recommends llama.cpp ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin llama

USER 10001:10001
WORKDIR /home/llama
EXPOSE 8080
# Cortex asks /health from outside: a health check inside would be a second opinion.
HEALTHCHECK NONE
ENTRYPOINT ["llama-server"]
