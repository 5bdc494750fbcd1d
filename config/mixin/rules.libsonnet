// What the alerts and long-range queries share, computed once.
//
// Every replica of one exporter shows the same gauges, so `max` folds replicas into one value instead of adding them
// up; `job` stays, so that two separate installations do not hide each other. Names are level:metric:operation, as
// prometheus.io/docs/practices/rules describes; the level `budget` stands for the labels that name a budget.
local budget = 'job, provider, period, unit, model, consumer';

{
  prometheusRules+:: {
    groups+: [{
      name: 'llm-quota-recording',
      rules: [
        // Share of the budget that is gone in the current window: 1 = all of it. No budget, no series.
        {
          record: 'budget:llm_quota_used:ratio',
          expr: 'max by (' + budget + ') (llm_quota_used_ratio)',
        },
        {
          record: 'budget:llm_quota_burn_rate1h:max',
          expr: 'max by (' + budget + ') (llm_quota_burn_rate{window="1h"})',
        },
        // The length of the window, and how long it still lasts; a rolling window always ends now.
        {
          record: 'budget:llm_quota_window_seconds:length',
          expr: |||
            max by (%s) (llm_quota_window_end_timestamp_seconds)
              -
            max by (%s) (llm_quota_window_start_timestamp_seconds)
          ||| % [budget, budget],
        },
        {
          record: 'budget:llm_quota_window_seconds:left',
          expr: 'max by (' + budget + ') (llm_quota_window_end_timestamp_seconds) - time() > 0',
        },
        // How long the rest of the budget lasts if the last hour goes on. A burn rate of 1 spends one budget per
        // period, so rest x period / burn rate is a time. Nothing spent in the last hour: infinite, never below a
        // limit.
        {
          record: 'budget:llm_quota_rest_lasts_seconds:burn_rate1h',
          expr: |||
            (1 - budget:llm_quota_used:ratio)
              *
            budget:llm_quota_window_seconds:length
              /
            budget:llm_quota_burn_rate1h:max
          |||,
        },
        // Whose a budget is, to join: 1 for every budget, with the labels of its owner where it has them. One series
        // a budget even while replicas disagree during a reload, because a join fails on two.
        {
          record: 'budget:llm_quota_owner:info',
          expr: |||
            topk by (%(budget)s) (1, max by (%(budget)s, %(owner)s) (llm_quota_budget_info))
              or on (%(budget)s)
            budget:llm_quota_used:ratio * 0 + 1
          ||| % { budget: budget, owner: std.join(', ', $._config.ownerLabels) },
        },
      ],
    }],
  },
}
