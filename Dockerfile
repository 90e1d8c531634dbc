# The daemon with everything it can use: docker build -t walnatsd .
# What is installed is pinned with its hashes: requirements/run.txt, requirements/build.txt (`make lock`).

# The Python that the tests run on.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/run.txt requirements/build.txt requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --require-hashes -r requirements/run.txt -w /wheels
COPY pyproject.toml README.md LICENSE ./
COPY walnatsd walnatsd
RUN /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps -w /wheels . \
    && python -m venv --without-pip /opt/walnatsd \
    && /opt/build/bin/pip --python /opt/walnatsd/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="walnatsd" \
      org.opencontainers.image.description="Event sidecar on NATS JetStream" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-log-init --create-home --home-dir /var/lib/walnatsd --shell /usr/sbin/nologin \
    walnatsd
COPY --from=build /opt/walnatsd /opt/walnatsd
ENV PATH=/opt/walnatsd/bin:$PATH
USER 10001:10001
# Writable, for nats.embedded.data_dir and the like; without a config file relative paths start here.
WORKDIR /var/lib/walnatsd
# Where the config file moves the administration address, set WALNATSD_ADMIN__LISTEN instead, which both read. Where that has
# TLS, set WALNATSD_MONITORING__LISTEN, which is asked first.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import http.client, os, sys; \
admin = http.client.HTTPConnection(os.environ.get('WALNATSD_MONITORING__LISTEN') \
or os.environ.get('WALNATSD_ADMIN__LISTEN', '127.0.0.1:7522'), timeout=3); \
admin.request('GET', '/readyz'); \
answer = admin.getresponse(); \
print(answer.read().decode()); \
sys.exit(answer.status != 200)"]
CMD ["walnatsd", "run", "-c", "/etc/walnatsd/walnatsd.yaml"]
