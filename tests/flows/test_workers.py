"""Stages on the workers of other machines: real workers in clones of their own, with the DVC remote alone in common."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from clones import Site, kill, server
from prefect.settings import PREFECT_API_URL, temporary_settings
from small_project import Project, until

from flows.deploy import SILENT_FOR, deploy

SOON = timedelta(seconds=40)  # a heartbeat comes every 30 s
