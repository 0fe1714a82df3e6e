# An MCP server over HTTP in a container; docs/deployment.md says how to run it.
#   docker build --tag workflows-mcp .
#   docker run --init --stop-timeout 40 --env WORKFLOWS_HTTP_TOKEN --publish 127.0.0.1:8000:8000 --volume workflows:/data \
#     workflows-mcp
# Any other command works, too: docker run --rm --volume workflows:/data workflows-mcp runs list
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
ENV UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir --root-user-action=ignore "uv>=0.9,<1"
WORKDIR /src
RUN uv venv /app
# By themselves, so that a change of the code does not install them anew. uv takes bounds and date from this file.
COPY pyproject.toml ./
RUN uv pip install --python /app --no-cache --requirements pyproject.toml
COPY README.md LICENSE ./
COPY migrations migrations
COPY examples/release-check.yaml examples/
COPY src src
RUN uv pip install --python /app --no-cache --no-deps .

FROM ${PYTHON}
LABEL org.opencontainers.image.title="workflows-mcp" \
      org.opencontainers.image.description="An MCP server that runs workflows and keeps their state safe" \
      org.opencontainers.image.source="https://github.com/workflows-mcp/workflows-mcp" \
      org.opencontainers.image.licenses="MIT"
# The image brings the standard library without .pyc files, and nothing can be written to it later.
RUN python -m compileall -q -j 0 /usr/local/lib/python3.13 \
    && useradd --system --user-group --uid 10001 --home-dir /data --shell /usr/sbin/nologin workflows \
    && install --directory --mode 0700 --owner workflows --group workflows /data \
    && mkdir /workflows
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    WORKFLOWS_DATABASE_URL=/data/checkpoints.db \
    WORKFLOWS_TEMPLATE_PATHS=/workflows
# As a number: Kubernetes cannot tell by a name that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Of `serve --http` on the variable's port; any other command that goes on for long wants `--no-healthcheck`.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('WORKFLOWS_HTTP_PORT') or 8000), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["workflows-mcp"]
CMD ["serve", "--http", "--host", "0.0.0.0"]
