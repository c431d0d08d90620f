# SGLang with ContextPilot in front of it and its hooks inside, in one container. In the root of a checkout:
#   docker build -f scripts/containers/sglang.Dockerfile -t contextpilot-sglang .
#   docker run --gpus all -p 127.0.0.1:8765:8765 contextpilot-sglang --model-path MODEL
ARG ENGINE=lmsysorg/sglang:v0.5.23
FROM ${ENGINE}
USER 0
COPY . /src
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir /src \
 && useradd --uid 10001 --create-home contextpilot \
 && cp /src/scripts/containers/both.py /opt/both.py \
 && rm -rf /src
ENV CONTEXTPILOT_HOST=0.0.0.0 \
    CONTEXTPILOT_ENGINE=http://127.0.0.1:30000
USER 10001
WORKDIR /home/contextpilot
EXPOSE 8765
# The engine loads its model first: /health answers 503 until it serves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/health', timeout=4)"]
ENTRYPOINT ["python3", "/opt/both.py", "python3", "-m", "sglang.launch_server", "--host", "127.0.0.1", "--port", "30000", "--enable-cache-report", "--enable-metrics"]
