# cavsync for machines without a GPU: preparation, and training at toy size. From the repository's root:
#   docker build --file docker/cpu.Dockerfile --tag cavsync:cpu .
FROM python:3.11.9-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY cavsync cavsync
COPY cli cli
COPY manifests manifests
COPY model model
COPY pipeline pipeline
COPY train train
RUN python -m pip install --no-cache-dir "build>=1.2" "setuptools>=77"
RUN python -m build --wheel --no-isolation --outdir /wheels

FROM python:3.11.9-slim-bookworm
# KubeRay's probes call wget. tini: the first process of a container ignores SIGTERM where it does not catch it.
RUN apt-get update && apt-get install --yes --no-install-recommends tini wget && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
# torch without CUDA is a tenth of the size. A mirror of its index: --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# s3fs: the extra `remote`.
RUN python -m pip install --no-cache-dir --constraint /wheels/constraints.txt --extra-index-url "$TORCH_INDEX" s3fs /wheels/*.whl
RUN useradd --create-home --uid 10001 cavsync && install --directory --owner cavsync /data
# A number: Kubernetes checks runAsNonRoot by it.
USER 10001
WORKDIR /data
# Initial weights that a training fetches stay on the volume.
ENV CAVSYNC_ROOT=/data HF_HOME=/data/huggingface
ENTRYPOINT ["tini", "--", "cavsync"]
CMD ["--help"]
