"""pyproject.toml says it all but the .pth file, which setuptools has no word for."""
import os

from setuptools import setup
from setuptools.command.build_py import build_py


class WithPath(build_py):
    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        with open(self._path_file(), 'w') as file:
            file.write('shiftvol_nova\n')

    def get_outputs(self, *args, **kwargs):
        return [*super().get_outputs(*args, **kwargs), self._path_file()]

    def _path_file(self):
        return os.path.join(self.build_lib, 'shiftvol-nova.pth')


setup(cmdclass={'build_py': WithPath})
