"""Jobs: the same command is the same job, one process at a time, and a source that changed is noticed."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from v2c.errors import BusyError, SourceError, UsageError
from v2c.jobs import Jobs, job_id
from v2c.model import Repair


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "state", tmp_path / "work")


def test_the_id_is_of_what_goes_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "erp.vmdk"
    disk.touch()
    first = job_id([str(disk)], "local:aws")
    assert len(first) == 16
    monkeypatch.chdir(tmp_path)
    assert job_id(["erp.vmdk"], "local:aws") == first
    assert job_id(["memory:erp"], "local:aws") == job_id(["memory:erp"], "local:aws")
    others = [
        job_id([str(disk)], "local:gcp"),
        job_id([str(disk)], "local:aws", Repair(skip=("probe",))),
        job_id(["x"], "local:aws"),
    ]
    assert len({first, *others}) == 4


def test_another_process_is_told_who_works_on_it(jobs: Jobs) -> None:
    code = (
        "import sys; from pathlib import Path; from v2c.jobs import Jobs\n"
        "with Jobs(sys.argv[1], Path('.')).claim('a1'): print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(jobs.state.folder)]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdin
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=rf"job a1 is being worked on by pid {holder.pid} since \d{{4}}-"), jobs.claim("a1"):
        pass
    with jobs.claim("a2"):
        pass
    holder.kill()
    holder.communicate()
    with jobs.claim("a1"):
        pass


def test_a_source_that_changed_stops_the_job(jobs: Jobs) -> None:
    with jobs.claim("a1") as job:
        assert job.record() is None
        made = job.began(["erp.vmdk"], "local:aws", "f1")
        assert job.began(["erp.vmdk"], "local:aws", "f1") == made == job.record()
        with pytest.raises(SourceError, match=r"erp\.vmdk changed since job a1 began.*--again"):
            job.began(["erp.vmdk"], "local:aws", "f2")
        assert job.began(["erp.vmdk"], "local:aws", "f2", again=True).fingerprint == "f2"
        job.began(["erp.vmdk"], "local:aws", "f2")


def test_the_folder_is_private_and_stays_where_it_was(jobs: Jobs, tmp_path: Path) -> None:
    with jobs.claim("a1") as job:
        job.began(["erp.vmdk"], "local:aws", "f1")
        assert job.folder == tmp_path / "work" / "a1"
        assert stat.S_IMODE(job.folder.stat().st_mode) == 0o700
    with Jobs(jobs.state, tmp_path / "elsewhere").claim("a1") as job:
        assert job.folder == tmp_path / "work" / "a1"


def test_a_planted_link_is_not_followed(jobs: Jobs, tmp_path: Path) -> None:
    jobs.workbase.mkdir(mode=0o700)
    (jobs.workbase / "a1").symlink_to("/etc")
    with jobs.claim("a1") as job, pytest.raises(UsageError, match="symbolic link"):
        job.began(["erp.vmdk"], "local:aws", "f1")


def test_jobs_are_found_by_the_beginning_of_their_id(jobs: Jobs) -> None:
    for id in ("ab1", "ab2", "ab"):
        with jobs.claim(id) as job:
            job.began([id], "file:x", "f")
    assert [record.id for record in jobs.all()] == ["ab1", "ab2", "ab"]
    assert jobs.find("ab").sources == ("ab",)
    assert jobs.find("ab2").id == "ab2"
    for wrong in ("a", "zz", ""):
        with pytest.raises(UsageError):
            jobs.find(wrong)
    with pytest.raises(UsageError), jobs.claim("../x"):
        pass
    with jobs.claim("ab") as job:
        job.forget()
    assert [record.id for record in jobs.all()] == ["ab1", "ab2"]
