// Whether the numbers can be believed: our count against theirs, the forecast against what came.
local texts = import '../texts.libsonnet';
local alert = import '../alert.libsonnet';

{
  prometheusAlerts+:: {
    groups+: [{
      name: 'llm-quota-trust',
      rules: [
        // Positive: the provider counts more than arrives here. A tenth of the limit is beyond rounding and requests
        // in flight.
        alert($._config, 'LLMQuotaDrift') {
          expr: |||
            max by (job, provider, limit, model) (llm_quota_provider_drift_ratio) > 0.1
              or
            max by (job, provider, limit, model) (llm_quota_provider_drift_ratio) < -0.1
          |||,
          'for': '1h',
          keep_firing_for: '30m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $labels.provider }} and this exporter count differently ({{ $labels.limit }}{{ with $labels.model }} of {{ . }}{{ end }})',
            description: "{{ $labels.provider }}'s own count of {{ $labels.limit }}{{ with $labels.model }} of {{ . }}{{ end }} differs from the one kept here by"
                         + ' {{ $value | humanizePercentage }} of the limit.'
                         + ' {{ if gt $value 0.0 }}It sees more: pushes are lost, somebody else uses the key, or a'
                         + ' weight is too low.{{ else }}It sees less: usage is counted twice, a weight is too high, or'
                         + ' the limit is not the one that is budgeted.{{ end }}',
          },
        },

        // One finished day in a row of many: below, it is rounding, or requests around midnight. Tokens say most;
        // a provider that counts in dollars alone is compared in these.
        alert($._config, 'LLMQuotaProviderCountDiffers') {
          expr: |||
            max by (job, provider, unit) (llm_quota_provider_count_drift_ratio) > %(tolerance)s
              or
            min by (job, provider, unit) (llm_quota_provider_count_drift_ratio) < -%(tolerance)s
          ||| % { tolerance: $._config.countTolerance },
          'for': '1h',
          labels: { severity: 'warning' },
          annotations+: {
            summary: '{{ $labels.provider }} counted other {{ $labels.unit }} than this exporter',
            description: "{{ $labels.provider }}'s own count of {{ $labels.unit }} differs from the one kept here by"
                         + ' {{ $value | humanizePercentage }} of the larger one'
                         + texts.asked(
                           'max(llm_quota_provider_count_drift_since_timestamp_seconds{job=%q,provider=%q,unit=%q})',
                           ['job', 'provider', 'unit'],
                           ', since ' + texts.moment
                         )
                         + '.' + texts.asked('max(llm_quota_provider_counted{job=%q,provider=%q,unit=%q})',
                                             ['job', 'provider', 'unit'],
                                             ' It counted ' + texts.first)
                         + texts.asked('max(llm_quota_provider_counted_here{job=%q,provider=%q,unit=%q})',
                                       ['job', 'provider', 'unit'],
                                       ', and here there were ' + texts.first + '.')
                         + ' {{ if gt $value 0.0 }}It sees more: pushes are lost, or somebody else uses the account.'
                         + '{{ else }}It sees less: usage is counted twice, or is of another account.{{ end }}',
          },
        },

        // 0.15 is the Brier score of always quoting the base rate, on budgets of which about one day in five runs out:
        // a forecast that is no better adds nothing. A calibration error of 0.1 means that what was called 90 % came
        // true 80 % of the time, say. On fewer than thirty windows neither number means much.
        alert($._config, 'LLMQuotaForecastUntrustworthy', onProvider=false) {
          expr: |||
            (
              max by (job, period) (llm_quota_forecast_brier_score) > 0.15
                or
              max by (job, period) (llm_quota_forecast_calibration_error) > 0.1
            )
              and
            max by (job, period) (llm_quota_forecast_scored_windows) >= 30
          |||,
          'for': '1h',
          labels: { severity: 'warning' },
          annotations+: {
            summary: 'Forecasts of {{ $labels.period }} budgets have become unreliable',
            description: 'Over the last '
                         + texts.asked('max(llm_quota_forecast_scored_windows{job=%q,period=%q})', ['job', 'period'], texts.first + ' ')
                         + 'finished {{ $labels.period }} windows the forecast scored {{ $value | printf "%.2f" }} where 0'
                         + ' is perfect (Brier score above 0.15, or calibration error above 0.1). Trust used and burn'
                         + ' rate more than the probability for now.',
          },
        },
      ],
    }],
  },
}
