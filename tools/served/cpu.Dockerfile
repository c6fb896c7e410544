# What vLLM's environment wants of the system; the environment itself is copied in by tools/served/image.py.
ARG BASE
FROM ${BASE}
RUN apt-get -o Acquire::Check-Valid-Until=false update \
 && apt-get install -y --no-install-recommends python3 libgomp1 libnuma1 \
 && rm -rf /var/lib/apt/lists/*
