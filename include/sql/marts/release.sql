-- Which release this file is. One row.
select
    getvariable('release_id') as release_id, -- Sortable by time, for example 20261122T140000123456Z
    getvariable('released_at') as released_at, -- When this release was built, UTC
    getvariable('run_id') as run_id, -- Airflow run that made it
    getvariable('pipeline_version') as pipeline_version -- Version of opportunity-sync
