// Budgets: spent, about to be, spent too fast, used, left over.
local texts = import '../texts.libsonnet';
local alert = import '../alert.libsonnet';

local budget = 'job, provider, period, unit, model, consumer';
local scope = 'job, provider, model, consumer';

{
  local config = $._config,
  local owner = ' * on (' + budget + ') group_left (' + std.join(', ', config.ownerLabels) + ') budget:llm_quota_owner:info',
  local owned(expr) = '(\n' + std.join('', ['  ' + line + '\n' for line in std.split(std.rstripChars(expr, '\n'), '\n')]) + ')' + owner + '\n',
  local rule(name) = alert(config, name),

  // What one consumer may have is spent: whoever works on that consumer wants to know, and nobody needs to be woken.
  local critical = '{{ if $labels.consumer }}warning{{ else }}critical{{ end }}',
  local percent(share) = '%g%%' % (share * 100),

  prometheusAlerts+:: {
    groups+: [{
      name: 'llm-quota-budget',
      rules: [
        // `predicted` has alerts of its own below and `operator` is somebody's decision. Five minutes leave out
        // budgets per minute, which come back by themselves before a person could read the message. An alert names
        // the budget that is spent; where none is, the provider has said so itself.
        rule('LLMQuotaExhausted') {
          local out = 'max by (' + scope + '%s) (llm_quota_exhausted_info{reason=~"budget|provider"}) == 1',
          expr: |||
            (budget:llm_quota_used:ratio >= 1)%(owner)s
              and on (%(scope)s)
            (%(out)s)
              or on (%(scope)s)
            %(out_why)s
          ||| % { owner: owner, scope: scope, out: out % '', out_why: out % ', reason' },
          'for': '5m',
          labels: { severity: critical },
          annotations+: {
            summary: texts.who + ' is out of quota{{ with $labels.period }} (' + texts.what + '){{ end }}',
            description: texts.who + ' has been exhausted for more than 5 minutes'
                         + '{{ if $labels.period }}: its ' + texts.what + ' is spent.' + texts.used
                         + '{{ else }}; evidence: {{ $labels.reason }}.{{ end }}' + texts.untilBack + texts.burners
                         + ' First: see that traffic has moved, then stop what spent it or raise the limit.',
          },
        },

        // Nothing about what an operator has silenced. Very likely and soon: six hours is the time in which somebody who is woken can still raise a limit, slow a
        // batch job down or move traffic; what is further off waits as a warning. Half an hour of agreement filters
        // single bursts, after which the forecast calms down by itself.
        rule('LLMQuotaExhaustionImminent') {
          expr: owned(|||
            max by (%(budget)s) (llm_quota_exhaustion_probability) >= 0.9
              and
            max by (%(budget)s) (llm_quota_exhaustion_timestamp_seconds) - time() < 6 * 3600
              and
            budget:llm_quota_used:ratio < 1
              unless on (job, provider)
            max by (job, provider) (llm_quota_history_seconds) < %(days)d * 86400
              unless on (%(budget)s)
            max by (%(budget)s) (llm_quota_silenced_until_timestamp_seconds) > time()
          ||| % { budget: budget, days: config.learningDays }),
          'for': '30m',
          keep_firing_for: '15m',
          labels: { severity: critical },
          annotations+: {
            summary: texts.who + ' will run out of its ' + texts.what + ' within hours',
            description: 'The forecast has given the ' + texts.what + ' of ' + texts.who
                         + ' at least 90% for half an hour, now {{ $value | humanizePercentage }}.' + texts.used
                         + texts.untilSpent + texts.untilReset + texts.burners
                         + ' First: slow down or move what can wait, then raise the limit if the demand is real.',
          },
        },

        rule('LLMQuotaExhaustionLikely') {
          expr: owned(|||
            max by (%(budget)s) (llm_quota_exhaustion_probability) >= 0.8
              and
            budget:llm_quota_used:ratio < 1
              unless on (job, provider)
            max by (job, provider) (llm_quota_history_seconds) < %(days)d * 86400
              unless on (%(budget)s)
            max by (%(budget)s) (llm_quota_silenced_until_timestamp_seconds) > time()
          ||| % { budget: budget, days: config.learningDays }),
          'for': '30m',
          keep_firing_for: '30m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: texts.who + ' will probably run out of its ' + texts.what,
            description: 'The forecast has given the ' + texts.what + ' of ' + texts.who
                         + ' at least 80% for half an hour, now {{ $value | humanizePercentage }}.' + texts.used
                         + texts.untilSpent + texts.untilReset + texts.burners
                         + ' First: decide who may use what is left.',
          },
        },

        // The backstop that needs no forecast, for loops that run away. Form: multi-window, multi-burn-rate alerts of
        // "The Site Reliability Workbook", chapter 5 "Alerting on SLOs" (sre.google/workbook/alerting-on-slos, table
        // 5-8: 14.4x over 1h and 5m, 6x over 6h and 30m page, 1x over 3d and 6h is a ticket, for a 30-day error
        // budget). The factors follow that chapter's formula, factor = share spent x period / long window, for a
        // daily budget:
        //   critical  a quarter of the budget in one hour     0.25 x 24h / 1h = 6
        //   warning   half of the budget in six hours         0.50 x 24h / 6h = 2
        // Its own shares (2 % and 5 %) suit errors, which are rare; tokens are meant to be spent, and a working day's
        // busy hours run at two to three times the mean.
        //
        // Four conditions keep it quiet when nobody needs it:
        // - both windows above the factor: still going on, not only remembered by the long window;
        // - a quarter of this window's budget spent: just after midnight the long window still shows yesterday;
        // - the rest is gone within hours (critical) or a day (warning): 6x of a month's budget is five days to act;
        // - ... and before the reset, which otherwise comes first.
        // `for` is longer than the short window, so that one large request has left it again before anybody is called.
        // Budgets of six hours or less are spent before a burn rate of 6 holds for an hour: there the forecast alerts.
        rule('LLMQuotaBurnTooFast') {
          expr: owned(|||
            budget:llm_quota_burn_rate1h:max >= 6
              and
            max by (%(budget)s) (llm_quota_burn_rate{window="10m"}) >= 6
              and
            (budget:llm_quota_used:ratio >= 0.25) < 1
              and
            budget:llm_quota_rest_lasts_seconds:burn_rate1h < 6 * 3600
              unless
            budget:llm_quota_rest_lasts_seconds:burn_rate1h > budget:llm_quota_window_seconds:left
          ||| % { budget: budget }),
          'for': '15m',
          keep_firing_for: '10m',
          labels: { severity: critical },
          annotations+: {
            summary: texts.who + ' burns its ' + texts.what + ' {{ $value | humanize }} times too fast',
            description: 'The ' + texts.what + ' of ' + texts.who + ' is spent at {{ $value | humanize }} times the rate'
                         + ' that would just last, over the last hour and still over the last 10 minutes.' + texts.used
                         + texts.asked('budget:llm_quota_rest_lasts_seconds:burn_rate1h{'
                                       + std.join(',', [l + '=%q' for l in texts.budget]) + '}', texts.budget,
                                       ' At this pace the rest lasts ' + texts.duration + '.')
                         + texts.burners + ' First: find what runs away and stop it.',
          },
        },

        // The short window is an hour here, hence the longer `for`.
        rule('LLMQuotaBurnHigh') {
          expr: owned(|||
            max by (%(budget)s) (llm_quota_burn_rate{window="6h"}) >= 2
              and
            budget:llm_quota_burn_rate1h:max >= 2
              and
            (budget:llm_quota_used:ratio >= 0.25) < 1
              and
            budget:llm_quota_rest_lasts_seconds:burn_rate1h < 24 * 3600
              unless
            budget:llm_quota_rest_lasts_seconds:burn_rate1h > budget:llm_quota_window_seconds:left
          ||| % { budget: budget }),
          'for': '75m',
          keep_firing_for: '30m',
          labels: { severity: 'warning' },
          annotations+: {
            summary: texts.who + ' burns its ' + texts.what + ' {{ $value | humanize }} times too fast',
            description: 'The ' + texts.what + ' of ' + texts.who + ' is spent at {{ $value | humanize }} times the rate'
                         + ' that would just last, over the last six hours and still over the last hour.' + texts.used
                         + texts.asked('budget:llm_quota_rest_lasts_seconds:burn_rate1h{'
                                       + std.join(',', [l + '=%q' for l in texts.budget]) + '}', texts.budget,
                                       ' At the last hour\'s pace the rest lasts ' + texts.duration + '.')
                         + texts.burners + ' First: see whether the load is wanted.',
          },
        },
      ] + [
        // What is used of a window only rises, so each share is crossed once in it and the alert ends with the window.
        // A rolling window falls, too: keep_firing_for keeps it from going back and forth. Windows of less than an
        // hour are over before anybody has read about them.
        rule('LLMQuotaBudgetUsed') {
          expr: owned(|||
            budget:llm_quota_used:ratio >= %(share)g
              unless
            budget:llm_quota_window_seconds:length < 3600
          ||| % one),
          keep_firing_for: '15m',
          labels: { severity: one.severity, used: percent(one.share) },
          annotations+: {
            summary: percent(one.share) + ' of the ' + texts.what + ' of ' + texts.who + ' is used',
            description: 'The ' + texts.what + ' of ' + texts.who + ' has passed ' + percent(one.share) + '.' + texts.used
                         + texts.untilReset + texts.burners + ' First: compare with the forecast on the dashboard.',
          },
        }
        for one in config.usedShares
      ] + [
        // Quota that is paid for and ends with the window: in its last twenty-fourth, an hour of a day, less than half
        // is used. Rolling windows have no end, and a shorter one comes back too soon to plan for it.
        rule('LLMQuotaBudgetUnused') {
          expr: owned(|||
            budget:llm_quota_used:ratio < 0.5
              and
            budget:llm_quota_window_seconds:left < budget:llm_quota_window_seconds:length / 24
              and
            budget:llm_quota_window_seconds:length >= 20 * 3600
          |||),
          'for': '10m',
          labels: { severity: 'info' },
          annotations+: {
            summary: 'Most of the ' + texts.what + ' of ' + texts.who + ' is left over',
            description: 'The ' + texts.what + ' of ' + texts.who + ' is about to start over, and only'
                         + ' {{ $value | humanizePercentage }} of it is used.' + texts.used + texts.untilReset
                         + ' First: nothing; where it is like this every time, the budget is too large or work can move here.',
          },
        },
      ],
    }],
  },
}
