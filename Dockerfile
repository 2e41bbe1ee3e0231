# The project with everything that it runs on; docs/platforms.md says how to build and use it.
# BASE: python:3.12-slim, whose torch brings its own CUDA libraries, or an image with CUDA on Debian or Ubuntu.
# TORCH_INDEX: address of torch's builds for the CPU, for an image without CUDA.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH_INDEX=""

WORKDIR /build
COPY scripts/container_build.sh scripts/
COPY requirements.txt ./
RUN sh scripts/container_build.sh libraries /opt/semseg

COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
RUN sh scripts/container_build.sh package /opt/semseg

# Whoever runs it, also by --user: runs, caches and downloads are written to the working folder.
ENV PATH=/opt/semseg/bin:$PATH HOME=/home/semseg PYTHONUNBUFFERED=1
WORKDIR /home/semseg
RUN chmod 777 /home/semseg
USER 10001:10001
ENTRYPOINT ["semseg"]
CMD ["--help"]
