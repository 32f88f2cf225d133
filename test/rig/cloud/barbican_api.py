"""Barbican's API. Its own script of this kind has one fixed place for its configuration."""
import os

from paste import deploy

application = deploy.loadapp("config:" + os.environ["BARBICAN_PASTE"])
