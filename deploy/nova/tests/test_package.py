"""Nova must find the driver wherever pip or a .deb puts it."""
import os
import subprocess
import sys

import pytest

HERE = os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
LOAD = """
import sys
{path}
import nova.cmd
import nova.conf
nova.conf.CONF([], project='nova', default_config_files=[])
nova.conf.CONF.set_override('compute_driver', 'shiftvol.driver.ShiftvolDriver')
from nova.virt import driver
print(type(driver.load_compute_driver(None)).__module__)
"""


def load(path):
    done = subprocess.run([sys.executable, '-B', '-c', LOAD.format(path=path)], capture_output=True, text=True, cwd='/')
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize('path', [f'sys.path.insert(0, {HERE!r})', f'sys.path.append({HERE!r})'],
                         ids=['before Nova', 'after Nova'])
def test_nova_loads_it(path):
    assert load(path) == 'nova.virt.shiftvol.driver'


def test_what_is_installed_is_found_and_touches_nothing_of_novas(tmp_path):
    subprocess.run([sys.executable, '-B', 'setup.py', '-q', 'egg_info', '--egg-base', str(tmp_path), 'build',
                    '--build-base', str(tmp_path), '--build-lib', str(tmp_path / 'site')],
                   cwd=HERE, check=True, capture_output=True)

    assert sorted(os.listdir(tmp_path / 'site')) == ['shiftvol-nova.pth', 'shiftvol_nova']
    assert load(f'import site; site.addsitedir({str(tmp_path / "site")!r})') == 'nova.virt.shiftvol.driver'
