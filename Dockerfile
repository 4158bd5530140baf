FROM python:3.11-slim
WORKDIR /app
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
COPY deploy/haproxy.cfg deploy/haproxy.cfg
RUN pip install --no-cache-dir . && useradd --system millrace && mkdir /data && chown millrace /data
USER millrace
CMD ["millrace", "--help"]
