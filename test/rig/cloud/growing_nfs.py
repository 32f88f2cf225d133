"""
Cinder's NFS driver, with one check less: it enlarges volumes that are attached, too.

It refuses that because QEMU holds the size of what it has opened (https://bugs.launchpad.net/cinder/+bug/1870367), and later releases have it
where Nova is asked. Without QEMU a file that has grown is larger at once. How it grows, and all that Cinder does around it, is Cinder's.
"""
from cinder.volume.drivers import nfs


class GrowingNfsDriver(nfs.NfsDriver):
    _enlarging = False

    def extend_volume(self, volume, new_size):
        self._enlarging = True
        try:
            super().extend_volume(volume, new_size)
        finally:
            self._enlarging = False

    def _is_volume_attached(self, volume):
        return not self._enlarging and super()._is_volume_attached(volume)
