(import 'config.libsonnet')
+ (import 'rules.libsonnet')
+ (import 'alerts/budget.libsonnet')
+ (import 'alerts/provider.libsonnet')
+ (import 'alerts/trust.libsonnet')
+ (import 'alerts/exporter.libsonnet')
+ {
  grafanaDashboards+:: {
    'llm-quota.json': import '../../grafana/dashboards/llm-quota.json',
  },
}
