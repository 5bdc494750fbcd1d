# The release workflow gives the base by its digest.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/exporter && /opt/exporter/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /opt/exporter/bin/pip install --no-cache-dir --no-deps .

FROM ${PYTHON}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llm-quota-exporter" \
      org.opencontainers.image.description="Prometheus exporter for LLM quotas" \
      org.opencontainers.image.source="https://github.com/llm-quota-exporter/llm-quota-exporter" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/exporter /opt/exporter
COPY config/docker/healthcheck.py /opt/exporter/healthcheck.py
COPY config/quota.yml /etc/llm-quota-exporter/quota.yml
# The account exists only to own /data, where the embedded store lives.
RUN useradd --system --uid 10042 --no-create-home exporter && install -d -o exporter -g exporter /data
ENV PATH=/opt/exporter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10042
VOLUME /data
EXPOSE 10042 4317
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "/opt/exporter/healthcheck.py"]
ENTRYPOINT ["llm-quota-exporter"]
CMD ["serve", "--config.file=/etc/llm-quota-exporter/quota.yml", "--storage.url=sqlite:////data/quota.db"]
