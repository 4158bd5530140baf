# Every process of Millrace, and its commands. Give the base by its digest for builds that can be repeated:
#   docker build --build-arg BASE=python@sha256:… .
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/server.txt
COPY pyproject.toml README.md topics.yaml ./
COPY schemas schemas
COPY domain domain
COPY runtime runtime
COPY adapters adapters
COPY ingest ingest
COPY streams streams
COPY gateway gateway
COPY audit audit
COPY stack stack
COPY verify verify
COPY cli cli
COPY sdk sdk
COPY deploy/haproxy.cfg deploy/hold.sh deploy/
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --system --uid 10001 --no-create-home millrace && install -d -o millrace /data
# By its number, so that a cluster can see that it is not root.
USER 10001
CMD ["millrace", "--help"]
