# The index server and proxy alone, for engines in other containers. In the root of a checkout:
#   docker build -f scripts/containers/index.Dockerfile -t contextpilot .
#   docker run -p 127.0.0.1:8765:8765 -e CONTEXTPILOT_INDEX_TOKEN=... contextpilot --engine URL
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
COPY . /src
RUN python3 -m venv /opt/contextpilot \
 && /opt/contextpilot/bin/pip install --no-cache-dir /src

FROM ${BASE}
# /state is for CONTEXTPILOT_STATE=/state/FILE, on a volume.
RUN useradd --uid 10001 --create-home contextpilot \
 && install --directory --owner 10001 /state
COPY --from=build /opt/contextpilot /opt/contextpilot
ENV PATH=/opt/contextpilot/bin:$PATH \
    CONTEXTPILOT_HOST=0.0.0.0
USER 10001
WORKDIR /home/contextpilot
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/health', timeout=4)"]
ENTRYPOINT ["contextpilot", "serve"]
