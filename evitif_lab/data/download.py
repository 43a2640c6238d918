"""Bring a data set to this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from evitif.datasets import DatasetError, fashion_mnist
from evitif.files import replacing


def fetch_fashion_mnist() -> Path:
    """Bring Fashion-MNIST to this machine if it is not there, and return its folder.

    From Debian's package where apt can download it (no root needed), else by torchvision's download. Raises DatasetError, with what was
    tried, where neither can.
    """
    if os.environ.get(fashion_mnist.ENVIRONMENT_VARIABLE):
        return fashion_mnist.locate()
    try:
        return fashion_mnist.locate()
    except DatasetError:
        pass
    tried = []
    for title, source in (("Debian's package by apt-get download", _fetch_debian_package),
                          ("torchvision's download", _fetch_by_torchvision)):
        try:
            source()
            return fashion_mnist.locate()
        except (OSError, RuntimeError, ImportError, subprocess.SubprocessError, DatasetError) as error:
            tried.append(f'{title}: {_last_line(error)}')
    raise DatasetError('Fashion-MNIST could not be fetched (' + '; '.join(tried) + f'). Set {fashion_mnist.ENVIRONMENT_VARIABLE} to '
                       'a folder with its four gzipped IDX files')


def _fetch_debian_package() -> None:
    for program in ('apt-get', 'dpkg-deb'):
        if shutil.which(program) is None:
            raise OSError(f'{program} is not installed')
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # apt's own user reads it
        command = ['apt-get', 'download', fashion_mnist.DEBIAN_PACKAGE]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if done.returncode and os.geteuid() == 0:  # a fresh container has no package lists yet
            subprocess.run(['apt-get', 'update', '-qq'], capture_output=True, timeout=300)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        packages = list(Path(folder).glob('*.deb'))
        if done.returncode or not packages:
            raise OSError(done.stderr.strip() or 'nothing was downloaded')
        subprocess.run(['dpkg-deb', '-x', str(packages[0]), folder], check=True, capture_output=True, timeout=120)
        _install(Path(folder) / fashion_mnist.DEBIAN_FOLDER.relative_to('/'))


def _fetch_by_torchvision() -> None:
    from evitif.model.timm_import import repair_torchvision
    repair_torchvision()
    from torchvision.datasets import FashionMNIST
    with tempfile.TemporaryDirectory() as folder:
        FashionMNIST(folder, train=True, download=True)
        _install(Path(folder) / 'FashionMNIST' / 'raw')


def _install(source: Path) -> None:
    """Copy the four files into the local folder, each whole or not at all."""
    for images, labels, _ in fashion_mnist.FILES.values():
        for name in (images, labels):
            with replacing(fashion_mnist.LOCAL_FOLDER / name) as new:
                shutil.copyfile(source / name, new)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
