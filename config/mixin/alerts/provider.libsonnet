// Providers: what they refuse, when they come back, what an operator has set.
local texts = import '../texts.libsonnet';
local alert = import '../alert.libsonnet';

local scope = 'job, provider, model, consumer';

{
  local rule(name) = alert($._config, name),

  prometheusAlerts+:: {
    groups+: [{
      name: 'llm-quota-provider',
      rules: [
        // Requests still go to a provider that has said that nothing is left: routers do not know, or do not care.
        rule('LLMQuotaRefusals') {
          expr: |||
            sum by (job, provider, reason) (
              max by (job, provider, model, reason) (increase(llm_quota_refusals_total{reason=~"quota|billing"}[10m]))
            ) > 0
          |||,
          'for': '15m',
          keep_firing_for: '15m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $labels.provider }} keeps refusing requests ({{ $labels.reason }})',
            description: '{{ $labels.provider }} has refused requests for more than 15 minutes, the last 10 of them'
                         + ' {{ $value | printf "%.0f" }} times; reason: {{ $labels.reason }}. Traffic has not moved away.'
                         + texts.burners + ' First: let routers ask /v1/exhausted, or pay where it is about billing.',
          },
        },

        // One throttled minute is normal. Half of half an hour means that the rate is above the limit per minute.
        rule('LLMQuotaThrottled') {
          expr: |||
            count_over_time(
              (max by (job, provider) (llm_quota_throttled_until_timestamp_seconds) > time())[30m:1m]
            ) >= 15
          |||,
          keep_firing_for: '15m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $labels.provider }} is throttled most of the time',
            description: '{{ $labels.provider }} has asked to wait in {{ $value | printf "%.0f" }} of the last 30 minutes: more is'
                         + ' asked for than its limit per minute allows.' + texts.burners
                         + ' First: spread the load, or ask for a higher limit per minute.',
          },
        },

        // Only while others are used: at night nobody asks anybody, and that is no fault of the provider. Some who
        // count tokens do not count requests, and the other way round.
        rule('LLMQuotaRecoveryPending') {
          expr: |||
            max by (%s) (llm_quota_recovery_pending) == 1
              and on (job)
            (
              sum by (job) (rate(llm_quota_tokens_total[15m])) > 0
                or
              sum by (job) (rate(llm_quota_requests_total[15m])) > 0
            )
          ||| % scope,
          'for': '1h',
          labels: { severity: 'warning' },
          annotations+: {
            summary: texts.who + ' should be back, but nothing has succeeded there yet',
            description: 'The retry time of ' + texts.who + ' passed more than an hour ago. Since then other providers'
                         + ' were used, and no success was seen from this one. First: send one small request by hand.',
          },
        },

        // An operator's word holds against all other evidence: whoever wonders about a number should see it.
        rule('LLMQuotaOverride') {
          expr: 'max by (' + scope + ', state, by) (llm_quota_override_info) == 1',
          labels: { severity: 'info' },
          annotations+: {
            summary: texts.who + ' is set to {{ $labels.state }} by {{ $labels.by }}',
            description: '{{ $labels.by }} has set ' + texts.who + ' to {{ $labels.state }}, whatever budgets and'
                         + ' providers say.'
                         + texts.asked('max(llm_quota_override_until_timestamp_seconds{'
                                       + std.join(',', [l + '=%q' for l in texts.scope]) + '}) - time()', texts.scope,
                                       ' It ends in ' + texts.duration + '.')
                         + ' First: nothing, while it is meant.',
          },
        },

        // The same of a single budget: another amount than the configured one, or predictions without an effect.
        rule('LLMQuotaBudgetOverride') {
          local budget = std.join(', ', texts.budget),
          expr: 'max by (' + budget + ') (llm_quota_budget_override_until_timestamp_seconds) - time() > 0',
          labels: { severity: 'info' },
          annotations+: {
            summary: 'An operator has given the ' + texts.what + ' of ' + texts.who + ' another amount',
            description: 'The ' + texts.what + ' of ' + texts.who + ' has another amount than the configuration says,'
                         + ' for another {{ $value | humanizeDuration }}.'
                         + ' First: nothing, while it is meant.',
          },
        },

        rule('LLMQuotaPredictionSilenced') {
          local budget = std.join(', ', texts.budget),
          expr: 'max by (' + budget + ') (llm_quota_silenced_until_timestamp_seconds) - time() > 0',
          labels: { severity: 'info' },
          annotations+: {
            summary: 'An operator has silenced predictions of the ' + texts.what + ' of ' + texts.who,
            description: 'Predictions of the ' + texts.what + ' of ' + texts.who + ' take nobody out and alert nobody,'
                         + ' for another {{ $value | humanizeDuration }}.'
                         + ' First: nothing, while it is meant.',
          },
        },
      ],
    }],
  },
}
