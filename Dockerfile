FROM python:3.11-slim
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
COPY deploy/haproxy.cfg deploy/haproxy.cfg
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && useradd --system millrace && mkdir /data && chown millrace /data
USER millrace
CMD ["millrace", "--help"]
