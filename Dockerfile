FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml README.md topics.yaml ./
COPY schemas schemas
COPY runtime runtime
COPY ingest ingest
COPY streams streams
COPY gateway gateway
COPY ops ops
COPY deploy/haproxy.cfg deploy/haproxy.cfg
RUN pip install --no-cache-dir . && useradd --system millrace && mkdir /data && chown millrace /data
USER millrace
CMD ["millrace", "--help"]
