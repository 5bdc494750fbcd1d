// Parts of the texts of alerts, in Prometheus' template language.
local arguments(labels) = std.join(' ', ['$labels.' + label for label in labels]);
local matchers(labels) = std.join(',', [label + '=%q' for label in labels]);

// The result of a query as the dot, or nothing where it has none. `%s` and `%q` in it stand for the labels.
local asked(expr, labels, text) =
  '{{ with printf "' + expr + '" ' + arguments(labels) + ' | query }}' + text + '{{ end }}';

{
  local texts = self,
  asked:: asked,
  first:: '{{ . | first | value | humanize }}',
  duration:: '{{ . | first | value | humanizeDuration }}',
  moment:: '{{ . | first | value | humanizeTimestamp }}',

  scope:: ['job', 'provider', 'model', 'consumer'],
  budget:: ['job', 'provider', 'period', 'unit', 'model', 'consumer'],

  // "openai", "gemini gemini-3-pro", "openai for batch-jobs"
  who:: '{{ $labels.provider }}{{ with $labels.model }} {{ . }}{{ end }}{{ with $labels.consumer }} for {{ . }}{{ end }}',

  // "day budget", "5h window" where a provider reports only the share of one
  what:: '{{ $labels.period }} {{ if eq $labels.unit "share" }}window{{ else }}budget{{ end }}',

  // " 105% used: 2.1M of 2M tokens."
  used:: (
    // A budget in tokens, requests or USD has metrics of that name; a share has none.
    local labels = ['unit', 'job', 'provider', 'period', 'model', 'consumer'];
    local amount(metric) = 'max(llm_quota_' + metric + '_%s{' + matchers(labels[1:]) + '})';
    asked('max(llm_quota_used_ratio{' + matchers(self.budget) + '})', self.budget,
          ' {{ . | first | value | humanizePercentage }} used')
    + asked(amount('used'), labels, ': ' + texts.first)
    + asked(amount('budget'), labels, ' of ' + texts.first + ' {{ $labels.unit }}') + '.'
  ),

  // " It frees up in 3h 0m 0s, at 2026-11-23 16:00:00 +0000 UTC."
  untilBack:: (
    local retry = 'max(llm_quota_retry_after_timestamp_seconds{' + matchers(self.scope) + '})';
    asked(retry + ' - time()', self.scope, ' It frees up in ' + texts.duration)
    + asked(retry, self.scope, ', at ' + texts.moment + '.')
  ),

  // " Expected to be spent in 2h 29m 0s."
  untilSpent:: asked(
    'max(llm_quota_exhaustion_timestamp_seconds{' + matchers(self.budget) + '}) - time()', self.budget,
    ' Expected to be spent in ' + texts.duration + '.'
  ),

  // " The window ends in 13h 30m 0s."
  untilReset:: asked(
    'max(llm_quota_window_end_timestamp_seconds{' + matchers(self.budget) + '}) - time() > 0', self.budget,
    ' The window ends in ' + texts.duration + '.'
  ),

  // " Most in the last hour: checkout (812k), search (40k), ci (3k)."
  burners:: asked(
    'topk(3, sum by (consumer) (max by (provider, consumer) (increase(llm_quota_consumer_tokens_total{'
    + matchers(['job', 'provider']) + '}[1h]))) > 0)',
    ['job', 'provider'],
    ' Most in the last hour: {{ range $i, $one := . }}{{ if $i }}, {{ end }}'
    + '{{ $one | label "consumer" }} ({{ $one | value | humanize }} tokens){{ end }}.'
  ),
}
