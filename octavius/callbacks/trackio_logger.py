"""Logger for trackio, which keeps runs in a local database: `--trainer.logger TrackioLogger`."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class TrackioLogger(Logger):
    """Logs scalars, settings, figures, tables and histograms to trackio; `trackio show` opens them."""

    def __init__(self, project: str = "octavius", name: str | None = None, save_dir: str = "runs") -> None:
        """Starts no run yet.

        Args:
            project: project of the run.
            name: name of the run; trackio invents one by default.
            save_dir: folder of the log folder that other files of the run are written to.
        """
        super().__init__()
        self._project, self._name, self._save_dir = project, name, save_dir
        self._run: Any = None
        self._settings = dict[str, Any]()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of trackio; started at the first call."""
        if self._run is None:
            import trackio

            self._run = trackio.init(self._project, self._name, config=self._settings, embed=False)
        return self._run

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The name of the run; empty on other processes than the first."""
        return str(getattr(self.experiment, "name", None) or self._name or "")

    @property
    def save_dir(self) -> str:
        """Folder above the log folders of runs."""
        return self._save_dir

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs scalars."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Adds settings of the run; those that come after the start of the run are not shown."""
        self._settings |= vars(params) if isinstance(params, Namespace) else params

    @rank_zero_only
    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Ends the run, once all of it is stored."""
        if self._run is not None:
            self._run.finish()
            self._run = None
