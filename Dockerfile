# Container of a server; docs/server.md shows how to build and start it, with and without a GPU.
FROM python:3.12-slim

# Where torch is installed from; empty for the registry's own build, which holds CUDA.
ARG TORCH_INDEX=""

RUN useradd --create-home --uid 1000 seesay

WORKDIR /app
COPY requirements.txt packages.txt ./
# System libraries that OpenCV is linked against.
RUN apt-get update \
 && xargs -a packages.txt apt-get install -y --no-install-recommends \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
      "torch==$(sed -n 's/^torch==//p' requirements.txt)" \
 && pip install --no-cache-dir -r requirements.txt

COPY app.py README.md LICENSE ./
COPY components components
COPY pipelines pipelines
COPY assets assets

# Weights and text vectors stay in /data where it is mounted; uploads are deleted after an hour.
RUN mkdir /data && chown seesay /data
USER seesay
ENV HF_HOME=/data/huggingface \
    SEESAY_CACHE_DIR=/data/seesay \
    SEESAY_HOST=0.0.0.0 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["python", "app.py"]
