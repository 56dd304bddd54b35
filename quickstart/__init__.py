"""The quick start: a stand-in for Dynamics, a private Airflow and the DAG, started and ended together.

Production code never imports this package; it uses the product only as an operator would: Airflow's command line, the
published file, the data root.
"""
