"""A whole node: instances come by STOW-RS, go to the archive, and are read by QIDO-RS and WADO-RS after the next start."""

from pathlib import Path

from engine.bench.loopback import HOST, free_port
from tests.support.dicom_instances import STUDY, instance, uid
from tests.support.dicomweb import ANY, RELATED, ask_now, body
from tests.support.sites import Site


def test_from_store_to_retrieve(tmp_path: Path) -> None:
    """Sent twice, kept once; what is refused is kept beside; bodies come back byte for byte."""
    port = free_port()
    site = Site(
        tmp_path,
        source={"dicomweb": {"listen": f"{HOST}:{port}", "archive": "dicom"}},
        accept=["message.type == 'CTImageStorage'"],
        destinations=[{"name": "archive", "dicom_archive": {"folder": "dicom"}}],
    )
    images = [instance(1), instance(2, pixels=262144)]
    report = instance(3, sop_class="1.2.840.10008.5.1.4.1.1.88.11")
    with site.running():
        for expected in (202, 202):
            heard = ask_now(port, "/dicom-web/studies", "POST", body(*images, report), content_type=RELATED)
            assert heard.status == expected
            assert [one["00081155"]["Value"] for one in heard.json()["00081199"]["Value"]] == [[uid(1)], [uid(2)]]
            assert [one["00081155"]["Value"] for one in heard.json()["00081198"]["Value"]] == [[uid(3)]]
    assert sorted(site.delivered()) == [uid(1), uid(2)]
    assert sorted((one.control_id, one.verdict) for one in site.kept()) == [(uid(1), "accepted"), (uid(2), "accepted"), (uid(3), "refused")]
    with site.running():
        (study,) = ask_now(port, "/dicom-web/studies?PatientID=P1").json()
        assert study["00201208"]["Value"] == [2]
        heard = ask_now(port, f"/dicom-web/studies/{STUDY}", accept=ANY)
        assert sorted(content for _, content in heard.parts()) == sorted(images)
    assert [one["interaction"] for one in site.audited("dicomweb.read")] == ["query", "retrieve"]
