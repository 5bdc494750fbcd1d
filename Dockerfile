FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN python -m venv /opt/exporter && /opt/exporter/bin/pip install --no-cache-dir ".[redis]"

FROM python:3.13-slim
COPY --from=build /opt/exporter /opt/exporter
COPY config/quota.yml /etc/llm-quota-exporter/quota.yml
# The account exists only to own /data, where the embedded store lives.
RUN useradd --system --uid 10042 --no-create-home exporter && install -d -o exporter -g exporter /data
ENV PATH=/opt/exporter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10042
VOLUME /data
EXPOSE 10042
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://localhost:10042/-/healthy', timeout=2)"]
ENTRYPOINT ["llm-quota-exporter"]
CMD ["serve", "--config.file=/etc/llm-quota-exporter/quota.yml", "--storage.url=sqlite:////data/quota.db"]
