"""Orthanc (Debian packages orthanc and orthanc-dicomweb) as a peer: a PACS in a process and a folder of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.peers import PATIENCE, require

ORTHANC = Path("/usr/sbin/Orthanc")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Orthanc:
    """`http` and `dicom` are its ports; `modalities`: name -> [AE title, host, port] that it knows."""

    def __init__(self, folder: Path, modalities: dict[str, list[Any]] | None = None, **more: Any) -> None:
        require(ORTHANC.exists() and DICOMWEB.exists(), "Debian packages orthanc and orthanc-dicomweb are not installed")
        self.http, self.dicom = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._configuration = folder / "orthanc.json"
        self._configuration.write_text(
            json.dumps(
                {
                    "Name": "peer", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "index"),
                    "HttpPort": self.http, "DicomPort": self.dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False, "DicomModalities": modalities or {}, "DicomTlsEnabled": False,
                    "DicomCheckModalityHost": False, "DicomAlwaysAllowStore": True, "OverwriteInstances": False, "TcpNoDelay": True,
                    "Plugins": [str(DICOMWEB)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, **more,
                }
            )
        )  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        self._process = subprocess.Popen(
            [str(ORTHANC), "--verbose", str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TCP_NODELAY": "1"},  # dcmtk's, which would stall for 40 ms at each image
        )
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        errors = self._process.stderr
        assert errors is not None
        said = ""
        while "Orthanc has started" not in said:
            said = errors.readline()
            assert said, "Orthanc has ended"
        watchdog.cancel()
        threading.Thread(target=errors.read, daemon=True).start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
            self._process = None

    def __enter__(self) -> Orthanc:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}") as answer:
            return json.loads(answer.read())

    def file(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}") as answer:
            body: bytes = answer.read()
            return body

    def sop_instances(self) -> list[str]:
        """SOP Instance UIDs of everything that it has, sorted."""
        return sorted(one["MainDicomTags"]["SOPInstanceUID"] for one in self.get("/instances?expand"))
