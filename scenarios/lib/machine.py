"""Another machine with workers, as far as processes go."""

import os

from .scenario import tail


class Machine:
    """`cluster` is where its workers join; without a token by the certificate that they have. Another `folder` is another machine of the same name."""

    def __init__(self, scenario, cluster, name, ports, token=None, folder=None):
        self.folder = scenario.folder / (folder or name)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "worker.toml").write_text(f'[media]\naddress = "127.0.0.1"\nports = "{ports}"\n\n[store]\nfolder = "data"\n')
        argv = [scenario.dialtone, "serve", "--config", "worker.toml", "--role", "worker", "--name", name, "--join", cluster]
        environment = os.environ | ({"DIALTONE_JOIN_TOKEN": token} if token else {})
        self.scenario, self.log = scenario, self.folder / "worker.log"
        self.process = scenario.start(argv, log=self.log, cwd=self.folder, env=environment)
        scenario.on_failure(lambda: tail(self.log))

    def kill(self):
        self.process.kill()
        self.process.wait(5)
        self.scenario.end(self.process)

    def stop(self, code):
        self.process.terminate()
        self.process.wait(10)
        self.scenario.equal(self.scenario.end(self.process), code, "exit code of a machine's keeper")
