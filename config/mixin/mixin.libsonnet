// Rules, alerts and the dashboard, for those who build their monitoring with jsonnet:
//
//   jb install github.com/llm-quota-exporter/llm-quota-exporter@main
//   local quota = (import 'github.com/llm-quota-exporter/llm-quota-exporter/config/mixin/mixin.libsonnet')
//                 + { _config+:: { job: 'quota' } };
//
// Everybody else takes config/rules/*.yml and grafana/dashboards/llm-quota.json, which are built from it.
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
