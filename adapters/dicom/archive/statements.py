"""All SQL of the archive: ``archive.db`` beside the files of its instances. SQLite, WAL, synchronous=FULL.

A study, series or instance is known by its UID; ``attributes`` is DICOM JSON (UTF-8), as the newest instance has them.
An instance with ``replaced`` null is shown; others have come before it under the same UID with other bytes, and are kept.
A study's ``revision`` counts its changes; ``added`` and ``replaced`` of an instance are revisions of its study, so that a study can be
read as it was at any of them.
"""

from __future__ import annotations

from typing import Final

SETTINGS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=10000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA auto_vacuum=INCREMENTAL",
)

SCHEMA: Final = """
create table patient (
    id         integer primary key,
    patient_id text not null,
    issuer     text not null,
    apart      text not null,          -- the Study Instance UID where there is no Patient ID: nobody is taken for somebody else
    attributes blob not null,
    unique (patient_id, issuer, apart)
);
create table patient_name (            -- each component group of a patient's name, folded: what a prefix of it finds
    folded     text not null,
    patient    integer not null references patient on delete cascade,
    primary key (folded, patient)
) without rowid;
create index patient_name_by_patient on patient_name (patient);
create table study (
    id         integer primary key,
    uid        text not null unique,
    patient    integer not null references patient,
    person     blob not null,          -- the patient's attributes as this study has them: those of another may say otherwise
    date       text not null,          -- YYYYMMDD or ""
    accession  text not null,
    attributes blob not null,
    counted    blob not null,          -- DICOM JSON: what is worked out from what is held
    instances  integer not null,       -- shown ones; 0: the study is not there
    bytes      integer not null,       -- of all its files
    expected   integer,                -- instances that its senders say it has (0020,1208)
    expected_series integer,           -- series (0020,1206)
    awaited    integer,                -- `expected`, or the sum of what its series say, where all are there and do
    revision   integer not null,
    changed    integer not null        -- microseconds since 1970 UTC
);
create index study_by_patient on study (patient);
create index study_by_date on study (date);
create index study_by_accession on study (accession) where accession <> '';
create index study_by_time on study (changed);
create table study_name (              -- as patient_name, of a study's own patient
    folded     text not null,
    study      integer not null references study on delete cascade,
    primary key (folded, study)
) without rowid;
create index study_name_by_study on study_name (study);
create table series (
    id         integer primary key,
    uid        text not null unique,
    study      integer not null references study on delete cascade,
    modality   text not null,
    attributes blob not null,
    counted    blob not null,
    instances  integer not null,
    expected   integer
);
create index series_by_study on series (study);
create table instance (
    id         integer primary key,
    uid        text not null,
    series     integer not null references series on delete cascade,
    study      integer not null references study on delete cascade,
    sop_class  text not null,
    transfer_syntax text not null,
    digest     text not null unique,   -- SHA-256 of the file, which is its name
    size       integer not null,
    added      integer not null,
    replaced   integer
);
create unique index instance_shown on instance (uid) where replaced is null;
create index instance_by_series on instance (series, replaced, sop_class);
create index instance_by_study on instance (study, replaced, series, sop_class, size);
create table header (
    instance   integer primary key references instance on delete cascade,
    content    blob not null           -- DICOM JSON of the data set without its bulk, and (0002,0016), deflated
);
create table gone (                    -- files that no row refers to any more, still to be removed
    digest     text primary key
) without rowid;
create table watch (                   -- sources that want to hear of studies
    source     text primary key
) without rowid;
create table notice (                  -- what a source has said of a study, and whether there may be more to say
    source     text not null references watch on delete cascade,
    study      integer not null references study on delete cascade,
    version    integer not null,       -- of the last message, counts from 1
    revision   integer not null,       -- of the study that it told of
    complete   integer not null,       -- whether it said so
    plan       text not null,          -- kind of the message that is being handed over, "" none
    open       integer not null,       -- 1: to be looked at, from `look` on
    look       integer not null,
    primary key (source, study)
) without rowid;
create index notice_open on notice (source, look) where open;
"""

# --- reading ---------------------------------------------------------------------------------------

_SHOWN: Final = "i.replaced is null"
FROM: Final = {
    "PATIENT": "patient p",
    "STUDY": "study s join patient p on p.id = s.patient",
    "SERIES": "series e join study s on s.id = e.study join patient p on p.id = s.patient",
    "IMAGE": "instance i join series e on e.id = i.series join study s on s.id = i.study join patient p on p.id = s.patient "
    "join header h on h.instance = i.id",
}
COLUMNS: Final = {
    "PATIENT": "p.id, p.attributes",
    "STUDY": "s.id, s.person, s.attributes, s.counted",
    "SERIES": "e.id, s.person, s.attributes, s.counted, e.attributes, e.counted",
    "IMAGE": "i.id, s.person, s.attributes, s.counted, e.attributes, e.counted, h.content, i.transfer_syntax",
}
THERE: Final = {
    "PATIENT": "exists (select 1 from study where study.patient = p.id and study.instances > 0)",
    "STUDY": "s.instances > 0",
    "SERIES": "e.instances > 0",
    "IMAGE": _SHOWN,
}
ALIAS: Final = {"PATIENT": "p", "STUDY": "s", "SERIES": "e", "IMAGE": "i"}
PATIENT_OF_NAME: Final = "p.id in (select patient from patient_name where folded >= ? and folded < ?)"
STUDY_OF_NAME: Final = "s.id in (select study from study_name where folded >= ? and folded < ?)"
COUNT_PATIENT: Final = """
select count(*), coalesce(sum(instances), 0),
    coalesce(sum((select count(*) from series where series.study = study.id and instances > 0)), 0)
from study where patient = ? and instances > 0"""
HELD: Final = """
select i.digest, i.sop_class, i.uid, i.transfer_syntax, e.uid, s.uid, i.size
from instance i join series e on e.id = i.series join study s on s.id = i.study join patient p on p.id = s.patient"""
VERSIONS: Final = """
select i.digest, i.sop_class, i.uid, i.transfer_syntax, e.uid, s.uid, i.size
from instance i join series e on e.id = i.series join study s on s.id = i.study where i.uid = ? order by i.id desc"""

# --- writing ---------------------------------------------------------------------------------------

BY_DIGEST: Final = "select id from instance where digest = ?"
SHOWN: Final = "select id, digest, series, study from instance where uid = ? and replaced is null"
OF_UID: Final = "select digest from instance where uid = ? order by id desc limit 20"
PATIENT: Final = """
insert into patient (patient_id, issuer, apart, attributes) values (:patient_id, :issuer, :apart, :attributes)
on conflict (patient_id, issuer, apart) do update set attributes = :attributes returning id"""
UNNAME_PATIENT: Final = "delete from patient_name where patient = ?"
NAME_PATIENT: Final = "insert or ignore into patient_name (folded, patient) values (?, ?)"
UNNAME_STUDY: Final = "delete from study_name where study = ?"
NAME_STUDY: Final = "insert or ignore into study_name (folded, study) values (?, ?)"
STUDY: Final = """
insert into study (uid, patient, person, date, accession, attributes, counted, instances, bytes, expected, expected_series,
    revision, changed)
values (:uid, :patient, :person, :date, :accession, :attributes, '{}', 0, 0, :expected, :expected_series, 0, :changed)
on conflict (uid) do update set patient = :patient, person = :person, date = :date, accession = :accession, attributes = :attributes,
    expected = coalesce(:expected, expected), expected_series = coalesce(:expected_series, expected_series) returning id"""
REVISION: Final = "select revision from study where id = ?"
BUMP: Final = "update study set revision = revision + 1, changed = ? where id = ?"
SERIES: Final = """
insert into series (uid, study, modality, attributes, counted, instances, expected)
values (:uid, :study, :modality, :attributes, '{}', 0, :expected)
on conflict (uid) do update set study = :study, modality = :modality, attributes = :attributes,
    expected = coalesce(:expected, expected) returning id"""
REPLACE: Final = "update instance set replaced = ? where id = ?"
INSTANCE: Final = """
insert into instance (uid, series, study, sop_class, transfer_syntax, digest, size, added) values (?, ?, ?, ?, ?, ?, ?, ?) returning id"""
HEADER: Final = "insert into header (instance, content) values (?, ?)"
NOT_GONE: Final = "delete from gone where digest = ?"
SERIES_OF: Final = "select id from series where study = ?"
COUNT_SERIES: Final = "select count(*) from instance where series = ? and replaced is null"
COUNTED_SERIES: Final = "update series set instances = ?, counted = ? where id = ?"
COUNT_STUDY: Final = """
select count(*), count(distinct series), (select sum(size) from instance where study = :study) from instance
where study = :study and replaced is null"""
MODALITIES: Final = "select distinct modality from series where study = ? and instances > 0 and modality <> '' order by modality"
SOP_CLASSES: Final = "select distinct sop_class from instance where study = ? and replaced is null order by sop_class"
AWAIT: Final = """
update study set awaited = coalesce(expected,
    (select sum(e.expected) from series e where e.study = study.id and e.instances > 0
     having count(*) = count(e.expected) and count(*) >= study.expected_series)) where id = ?"""
COUNTED_STUDY: Final = "update study set instances = ?, bytes = ?, counted = ? where id = ?"
WAKE: Final = """
insert into notice (source, study, version, revision, complete, plan, open, look)
select source, :study, 0, 0, 0, '', 1, 0 from watch where true
on conflict (source, study) do update set open = 1, look = 0"""

# --- retention -------------------------------------------------------------------------------------

BYTES: Final = "select coalesce(sum(bytes), 0) from study"
OLD: Final = "select id from study where changed < ? order by changed limit 1"
OLDEST: Final = """
select id from study s where not exists (select 1 from notice where notice.study = s.id and open and not complete)
order by changed limit 1"""
GO: Final = "insert or ignore into gone select digest from instance where study = ?"
FORGET: Final = "delete from study where id = ?"
NOBODY: Final = "delete from patient where id = ? and not exists (select 1 from study where study.patient = patient.id)"
WHOSE: Final = "select patient from study where id = ?"
GONE: Final = "select digest from gone limit ?"
STILL_HELD: Final = "select 1 from instance where digest = ?"
VACUUM: Final = "PRAGMA incremental_vacuum(200)"

# --- what is said of studies -----------------------------------------------------------------------

ENROLL: Final = "insert or ignore into watch (source) values (?)"
CATCH_UP: Final = """
insert or ignore into notice (source, study, version, revision, complete, plan, open, look) select :source, id, 0, 0, 0, '', 1, 0 from study
where instances > 0"""
OPEN: Final = """
select n.study, s.uid, n.version, n.revision, n.complete, n.plan, s.revision, s.changed, s.instances, s.awaited, p.patient_id
from notice n join study s on s.id = n.study join patient p on p.id = s.patient
where n.source = ? and n.open and n.look <= ? order by n.look, n.study limit ?"""
LOOK_AT: Final = """
update notice set look = ? where source = ? and study = ? and open and plan = ''
    and ? = (select revision from study where id = notice.study)"""
PLAN: Final = "update notice set version = version + 1, revision = ?, plan = ? where source = ? and study = ?"
SAID: Final = """
update notice set plan = '', complete = :complete, look = 0,
    open = not (:complete and revision = (select revision from study where id = :study))
where source = :source and study = :study and version = :version"""
CONTENT: Final = """
select h.content from instance i join header h on h.instance = i.id
where i.study = :study and i.added <= :revision and (i.replaced is null or i.replaced > :revision) order by i.series, i.id"""
