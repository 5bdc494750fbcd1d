"""HTTP: routes, the /metrics collector, the pages a person sees, and who may use them."""
