# vLLM with ContextPilot in front of it and its hooks inside, in one container. In the root of a checkout:
#   docker build -f scripts/containers/vllm.Dockerfile -t contextpilot-vllm .
#   docker run --gpus all -p 127.0.0.1:8765:8765 contextpilot-vllm MODEL
ARG ENGINE=vllm/vllm-openai:v0.32.0
FROM ${ENGINE}
USER 0
COPY . /src
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir /src \
 && useradd --uid 10001 --create-home contextpilot \
 && cp /src/scripts/containers/both.py /opt/both.py \
 && rm -rf /src
ENV CONTEXTPILOT_HOST=0.0.0.0 \
    CONTEXTPILOT_ENGINE=http://127.0.0.1:8000
USER 10001
WORKDIR /home/contextpilot
EXPOSE 8765
# The engine loads its model first: /health answers 503 until it serves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/health', timeout=4)"]
ENTRYPOINT ["python3", "/opt/both.py", "vllm", "serve", "--host", "127.0.0.1", "--port", "8000", "--enable-prompt-tokens-details"]
