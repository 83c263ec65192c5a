"""Stands in for `test/service.py`, which kafka-python's source archive leaves out: its tests start no service here,
they are pointed at a broker that runs already."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass


class SpawnedService:
    def __init__(self, *_arguments, **_settings):
        raise RuntimeError("these tests run against a broker that is there already")
