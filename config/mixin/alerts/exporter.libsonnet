// The exporter itself: that it answers, stores, is fed, and is configured as meant.
local texts = import '../texts.libsonnet';
local alert = import '../alert.libsonnet';

{
  local config = $._config,
  local rule(name) = alert(config, name, onProvider=false),
  local up = 'up{job="' + config.job + '"}',

  prometheusAlerts+:: {
    groups+: [{
      name: 'llm-quota-exporter',
      rules: [
        // One of several replicas may be away; none must not. `absent` covers a target that left service discovery.
        rule('LLMQuotaExporterDown') {
          expr: |||
            max by (job) (%(up)s) == 0
              or
            absent(%(up)s)
          ||| % { up: up },
          'for': '5m',
          labels: { severity: 'critical' },
          annotations+: {
            summary: 'No replica of {{ $labels.job }} can be scraped',
            description: 'Prometheus has reached no instance of {{ $labels.job }} for more than 5 minutes. Usage may not be'
                         + ' counted, and no other alert about quotas can fire. First: look at the process and its last log lines.',
          },
        },

        rule('LLMQuotaStorageDown') {
          expr: 'min by (job, instance) (llm_quota_exporter_storage_up) == 0',
          'for': '2m',
          labels: { severity: 'critical' },
          annotations+: {
            summary: 'The store of {{ $labels.instance }} does not work',
            description: '{{ $labels.instance }} answers pushes with 503 because it cannot store them, and shows what it'
                         + ' knew before. Clients that retry lose nothing for as long as they keep it. First: see whether the'
                         + ' disk is full or Redis away.',
          },
        },

        // Silence is expected at night and at weekends, so it is compared with the same hour a week ago. Installations
        // younger than that get the second line: longer than from Friday evening to Monday morning. Where nothing was
        // ever pushed there is no time to compare: the third line gives a day for setting up.
        rule('LLMQuotaNoUsage') {
          local pushed = 'max by (job) (llm_quota_exporter_last_push_timestamp_seconds)',
          expr: |||
            (
              time() - %(pushed)s > 3600
                and
              (
                sum by (job) (increase(llm_quota_tokens_total[1h] offset 1w)) > 0
                  or
                sum by (job) (increase(llm_quota_requests_total[1h] offset 1w)) > 0
              )
            )
              or
            time() - %(pushed)s > 72 * 3600
              or
            86400 * (max by (job) (%(up)s offset 1d) == 1 and max by (job) (%(up)s) == 1) unless %(pushed)s
          ||| % { pushed: pushed, up: up },
          'for': '10m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $labels.job }} has received no usage for {{ $value | humanizeDuration }}',
            description: '{{ with printf "max(llm_quota_exporter_last_push_timestamp_seconds{job=%q})" $labels.job | query }}'
                         + 'The last push {{ $labels.job }} accepted is {{ $value | humanizeDuration }} old, at a time when usage'
                         + ' normally arrives. What is used now is missing from every budget.'
                         + '{{ else }}Nothing was ever pushed to {{ $labels.job }}, which has run for at least a day.{{ end }}'
                         + ' First: push one event by hand, then look at the sender.',
          },
        },

        // A share rather than a count: it is the same whether replicas share their counters or not. `for` is longer
        // than the range, so that one bad request is forgotten before it counts.
        rule('LLMQuotaPushesRejected') {
          expr: |||
            sum by (job, source) (rate(llm_quota_events_total{outcome="rejected"}[10m]))
              /
            sum by (job, source) (rate(llm_quota_events_total[10m]))
              > 0.01
          |||,
          'for': '15m',
          keep_firing_for: '15m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $value | humanizePercentage }} of the usage from {{ $labels.source }} is rejected',
            description: '{{ $labels.job }} has rejected {{ $value | humanizePercentage }} of the events from'
                         + ' {{ $labels.source }} for more than 15 minutes. Those tokens are missing from the budgets. First:'
                         + " read the reason in the exporter's log.",
          },
        },

        // Two reporters of the same calls that name nothing in common: calls of as many tokens within a minute, or totals
        // whose difference comes back to the same number. What is alike by chance is a small share.
        rule('LLMQuotaCountedTwice') {
          expr: |||
            sum by (job, source) (increase(llm_quota_suspected_duplicates_total[1h]))
              /
            sum by (job, source) (increase(llm_quota_events_total{outcome="accepted"}[1h]))
              > 0.3
          |||,
          'for': '1h',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $value | humanizePercentage }} of the usage from {{ $labels.source }} seems to be counted twice',
            description: '{{ $value | humanizePercentage }} of what {{ $labels.source }} reports to {{ $labels.job }} looks like'
                         + ' what another reporter tells of, too: a tool and its gateway, perhaps.'
                         + ' First: see which reporters name the same models, and let a rule with `count: false` leave one out.',
          },
        },

        // Whoever looks decides whether it is usage: a metric may only be called like one. Hence no ticket.
        rule('LLMQuotaUsageNotUnderstood') {
          expr: |||
            sum by (job, source, reason) (increase(llm_quota_uncharged_total{reason=~"unknown_.+"}[1h])) > 0
          |||,
          'for': '1h',
          labels: { severity: 'info' },
          annotations+: {
            summary: 'Usage from {{ $labels.source }} is not understood ({{ $labels.reason }})',
            description: '{{ $labels.job }} has received {{ $value | humanize }} items from {{ $labels.source }} within an hour that seem'
                         + ' to tell of usage, and counts none of them: {{ $labels.reason }}. They are missing from the budgets.'
                         + ' First: see what the reason means, and who reports so.',
          },
        },

        rule('LLMQuotaConfigReloadFailed') {
          expr: 'min by (job, instance) (llm_quota_exporter_config_last_reload_successful) == 0',
          'for': '5m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $labels.instance }} runs on an old configuration',
            description: 'The last reload of {{ $labels.instance }} failed; the configuration from before is still in force.'
                         + texts.asked('time() - max(llm_quota_exporter_config_last_reload_success_timestamp_seconds{job=%q,instance=%q})',
                                       ['job', 'instance'], ' It was loaded ' + texts.duration + ' ago.')
                         + ' First: llm-quota-exporter check-config.',
          },
        },

        // Windows, rates and retry times all hang on the clock. One that was set keeps its effect for a while.
        rule('LLMQuotaClockJumped') {
          expr: 'max by (job, instance) (increase(llm_quota_exporter_clock_jumps_total[1h])) > 0',
          labels: { severity: 'warning' },
          annotations+: {
            summary: 'The clock of {{ $labels.instance }} jumped',
            description: 'The clock of {{ $labels.instance }} jumped in the last hour. Usage may stand in the wrong window, and'
                         + ' burn rates may be wrong until it has left them. First: look at the time service of that machine.',
          },
        },

        rule('LLMQuotaTaskFailing') {
          expr: 'max by (job, instance, task) (increase(llm_quota_exporter_task_failures_total[15m])) > 0',
          'for': '15m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: 'The task {{ $labels.task }} of {{ $labels.instance }} keeps failing',
            description: '{{ $labels.task }} has failed {{ $value | printf "%.0f" }} times in the last 15 minutes on'
                         + " {{ $labels.instance }}. First: read the exporter's log.",
          },
        },

        rule('LLMQuotaSeriesFolded') {
          expr: 'max by (job, what) (increase(llm_quota_folded_total[1h])) > 0',
          'for': '5m',
          labels: { severity: 'info' },
          annotations+: {
            summary: '{{ $labels.job }} folds {{ $labels.what }} names into `other`',
            description: 'The cap on {{ $labels.what }} names is reached: {{ $value | printf "%.0f" }} times in the last hour a'
                         + ' further one was counted under `other`.',
          },
        },
      ],
    }],
  },
}
