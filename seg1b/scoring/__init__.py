"""Metrics, gates, grades, stability and the statistical evidence behind them."""
