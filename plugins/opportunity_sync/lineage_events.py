"""Tasks that say in OpenLineage events what they read and wrote, where Airflow's OpenLineage provider is configured.

The provider (apache-airflow-providers-openlineage) sends an event when a task starts, ends or fails, and asks the
operator for datasets. It does so in a process of its own, for as long as `[openlineage] execution_timeout` allows, and
whatever goes wrong there is a warning in the task's log: neither an error here nor a receiver that is down can fail a
task. Where no transport is configured, nothing of this runs and nothing of OpenLineage is imported.
What is sent, and how to switch it on: docs/lineage.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator  # the base of all `@task...`
from airflow.sdk.bases.decorator import task_decorator_factory

from opportunity_sync.errors import OpportunitySyncError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import DatasetFacet, column_lineage_dataset

    from opportunity_sync.lineage_facts import Dataset, Facts, Field

Stage = Literal["extract", "transform", "validate", "publish"]

SEVERITIES = {"critical": "error", "warning": "warn"}
"""OpenLineage's words: does a failure block the pipeline?"""


class LineageOperator(_PythonDecoratedOperator):
    """A `@task` whose OpenLineage events name datasets, and hold no text of errors that may hold data.

    Args:
        stage: which facts to send; None: no datasets.
        kwargs: as of `@task`.
    """

    def __init__(self, *, stage: Stage | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.returned: Any = None
        """What the task's function has returned."""
        self.error: Exception | None = None
        """What it has raised."""

    def execute(self, context: Any) -> Any:
        """Run the task's function."""
        try:
            self.returned = super().execute(context)
        except Exception as error:
            self.error = error
            raise
        return self.returned

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any]:
        """What the task has read and written; called by the provider."""
        return as_openlineage(self._facts())

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any]:
        """A failed validation tells its results; whatever else failed has written nothing that counts."""
        from opportunity_sync.lineage_facts import Facts

        if self.error is not None:
            withhold(self.error)
        return as_openlineage(self._facts() if self.stage == "validate" else Facts())

    def _facts(self) -> Facts:
        from opportunity_sync import lineage_facts
        from opportunity_sync.settings import load_settings

        if self.stage is None:
            return lineage_facts.Facts()
        settings = load_settings()
        if self.stage == "extract":
            return lineage_facts.extracted(settings, self.returned)
        if self.stage == "transform":
            return lineage_facts.transformed(settings, self.returned)
        given = inspect.signature(self.python_callable).bind_partial(*self.op_args, **self.op_kwargs)
        facts = lineage_facts.validated if self.stage == "validate" else lineage_facts.published
        return facts(settings, given.arguments["release_id"])


def lineage_task(stage: Stage | None = None, **kwargs: Any) -> Callable[[Callable[..., Any]], Any]:
    """`@task` with the same arguments and the OpenLineage events of `LineageOperator`."""
    decorate: Callable[[Callable[..., Any]], Any] = task_decorator_factory(
        decorated_operator_class=LineageOperator, stage=stage, **kwargs
    )
    return decorate


def withhold(error: Exception) -> None:
    """Leave only the type of an error that is not ours: the provider sends its text, which may hold data.

    By now the task's log has all of it. What is changed is the copy in the process that sends the event.
    """
    if not isinstance(error, OpportunitySyncError):
        error.args = (f"{type(error).__name__}: see the task's log",)
        error.__traceback__ = None


def as_openlineage(facts: Facts) -> OperatorLineage[Any, Any]:
    """Facts in the provider's words."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[_input(dataset) for dataset in facts.inputs], outputs=[_output(dataset) for dataset in facts.outputs]
    )


def _input(dataset: Dataset) -> event_v2.InputDataset:
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import (
        InputDatasetFacet,
        data_quality_assertions_dataset,
        input_statistics_input_dataset,
    )

    of_input: dict[str, InputDatasetFacet] = {}
    if dataset.rows is not None:
        of_input["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=dataset.rows
        )
    if dataset.results:
        of_input["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[
                data_quality_assertions_dataset.Assertion(
                    assertion=result.expectation,
                    success=result.success,
                    column=result.column,
                    severity=SEVERITIES[result.severity],
                    actual=None if result.unexpected_count is None else str(result.unexpected_count),
                    expected=None if result.unexpected_count is None else "0",
                    params={} if result.element_count is None else {"element_count": result.element_count},
                )
                for result in dataset.results
            ]
        )
    return event_v2.InputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), inputFacets=of_input)


def _output(dataset: Dataset) -> event_v2.OutputDataset:
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import OutputDatasetFacet, output_statistics_output_dataset

    of_output: dict[str, OutputDatasetFacet] = {}
    if dataset.rows is not None:
        of_output["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=dataset.rows, size=dataset.bytes, fileCount=dataset.files
        )
    return event_v2.OutputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), outputFacets=of_output)


def _facets(dataset: Dataset) -> dict[str, DatasetFacet]:
    from openlineage.client.facet_v2 import (
        column_lineage_dataset,
        dataset_version_dataset,
        datasource_dataset,
        schema_dataset,
    )

    facets: dict[str, DatasetFacet] = {
        "dataSource": datasource_dataset.DatasourceDatasetFacet(name=dataset.namespace, uri=dataset.namespace)
    }
    if dataset.version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.version)
    if dataset.columns:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            fields=[
                schema_dataset.SchemaDatasetFacetFields(
                    name=column.name,
                    type=column.type,
                    description=column.description or None,
                    ordinal_position=position,
                )
                for position, column in enumerate(dataset.columns, 1)
            ]
        )
    derived = {
        column.name: column_lineage_dataset.Fields(
            inputFields=[
                *(_input_field(field, "DIRECT") for field in column.sources),
                *(_input_field(field, "INDIRECT", "JOIN") for field in column.lookups),
            ]
        )
        for column in dataset.columns
        if column.sources or column.lookups
    }
    if derived:
        facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
            fields=derived, dataset=[_input_field(field, "INDIRECT", "FILTER") for field in dataset.row_lookups]
        )
    return facets


def _input_field(field: Field, kind: str, subtype: str | None = None) -> column_lineage_dataset.InputField:
    from openlineage.client.facet_v2 import column_lineage_dataset

    return column_lineage_dataset.InputField(
        namespace=field.namespace,
        name=field.name,
        field=field.column,
        transformations=[column_lineage_dataset.Transformation(type=kind, subtype=subtype)],
    )
