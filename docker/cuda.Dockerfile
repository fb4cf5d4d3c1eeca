# cavsync for NVIDIA GPUs. torch brings its own CUDA libraries; the host needs a driver and the NVIDIA container toolkit.
#   docker build --file docker/cuda.Dockerfile --tag cavsync:cuda .
# torch of constraints.txt is built for CUDA 13.0; the base image asks the driver for as much.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS python
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv tini wget && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

FROM python AS wheel
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

FROM python
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
# s3fs: the extra `remote`.
RUN python -m pip install --no-cache-dir --constraint /wheels/constraints.txt s3fs /wheels/*.whl
RUN useradd --create-home --uid 10001 cavsync && install --directory --owner cavsync /data
# A number: Kubernetes checks runAsNonRoot by it.
USER 10001
WORKDIR /data
# Initial weights that a training fetches stay on the volume.
ENV CAVSYNC_ROOT=/data HF_HOME=/data/huggingface
ENTRYPOINT ["tini", "--", "cavsync"]
CMD ["--help"]
