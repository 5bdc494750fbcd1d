"""The library: the quota state store and the burn-rate tracker, as in the Go package `quota`."""
