# llama-server with ContextPilot in front of it and its shim inside, in one container. ENGINE is an image
# with a llama-server of shared libraries, at /app, on Debian or Ubuntu: llama.cpp's own server image, say.
# In the root of a checkout:
#   docker build -f scripts/containers/llama-server.Dockerfile --build-arg ENGINE=... -t contextpilot-llama .
#   docker run -p 127.0.0.1:8765:8765 -v /models:/models:ro contextpilot-llama -m /models/model.gguf
ARG ENGINE=llama-server
FROM ${ENGINE}
USER 0
# The shim is compiled here, once: g++ stays, as its version is part of the shim's name.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /opt/contextpilot \
 && /opt/contextpilot/bin/pip install --no-cache-dir /src \
 && useradd --uid 10001 --create-home contextpilot \
 && cp /src/scripts/containers/both.py /opt/both.py \
 && rm -rf /src
ENV PATH=/opt/contextpilot/bin:/app:$PATH \
    CONTEXTPILOT_HOST=0.0.0.0 \
    CONTEXTPILOT_ENGINE=http://127.0.0.1:8080
USER 10001
WORKDIR /home/contextpilot
EXPOSE 8765
# The engine loads its model first: /health answers 503 until it serves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/health', timeout=4)"]
ENTRYPOINT ["python3", "/opt/both.py", "contextpilot-llama-server", "--host", "127.0.0.1", "--port", "8080"]
