// The part that every alert has: its name, and links to its section of the runbook and to the dashboard.
function(config, name, onProvider=true) {
  alert: name,
  annotations: {
    runbook_url: config.runbookUrl + '#' + std.asciiLower(name),
    dashboard_url: config.dashboardUrl
                   + (if onProvider then '?var-provider={{ $labels.provider | urlquery }}' else ''),
  },
}
