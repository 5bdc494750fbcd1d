// What an installation may set differently: `(import 'mixin.libsonnet') + { _config+:: { job: 'quota' } }`.
{
  _config+:: {
    // The job that scrapes the exporter.
    job: 'llm-quota-exporter',

    // Where the links of an alert lead. The second is that of compose.yaml.
    runbookUrl: 'https://github.com/llm-quota-exporter/llm-quota-exporter/blob/main/docs/runbook.md',
    dashboardUrl: 'http://localhost:3000/d/llm-quota',

    // Labels of `llm_quota_budget_info` that alerts about a budget carry, for routing. They come from `labels:` in a
    // budget's configuration.
    ownerLabels: ['team'],

    // Shares of a budget at which an alert says that they are used. Not even the last one wakes anybody: whether
    // 95 % is too much depends on how much of the window is left, and the forecast knows that.
    usedShares: [
      { share: 0.5, severity: 'info' },
      { share: 0.8, severity: 'warning' },
      { share: 0.95, severity: 'warning' },
    ],

    // A forecast that has seen fewer days of a provider pages nobody. On the trace in the README the first day is
    // nearly twice as wrong as the days from the fourth on.
    learningDays: 3,

    // Share of a day by which a provider's own count of it may differ from the one kept here. Reports that arrive
    // after midnight count for the day of their requests here, and perhaps not there.
    countTolerance: 0.05,
  },
}
