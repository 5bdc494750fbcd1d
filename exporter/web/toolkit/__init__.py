"""What Prometheus' exporter-toolkit gives every exporter: TLS, basic auth, headers, and rights."""
