"""Exceptions in the manner of nova.exception, for a client that allows this module."""


class PeerException(Exception):
    msg_fmt = 'An unknown exception occurred.'
    code = 500

    def __init__(self, message=None, **kwargs):
        self.kwargs = kwargs
        super().__init__(message or self.msg_fmt % kwargs)


class InstanceNotFound(PeerException):
    msg_fmt = 'Instance %(instance_id)s could not be found.'
    code = 404
