"""The worklist's tables and statements. SQLite."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
create table if not exists steps (
    "order"   text not null,          -- Step.key
    procedure text not null,
    position  text not null,
    status    text not null,
    start     text not null,          -- YYYYMMDDHHMMSS
    modality  text not null,
    patient   text not null,          -- the number
    accession text not null,
    placer    text not null,
    filler    text not null,
    study     text not null,
    requested text not null,          -- the identifiers that the modality gives back
    step      text not null,
    content   blob not null,          -- a Step as JSON
    changed   integer not null,       -- microseconds since 1970 UTC
    primary key ("order", procedure, position)
) without rowid;
create index if not exists steps_by_start on steps (status, start);
create index if not exists steps_by_study on steps (study, step);
create index if not exists steps_by_accession on steps (accession) where accession <> '';
create index if not exists steps_by_patient on steps (patient);
create index if not exists steps_by_placer on steps (placer) where placer <> '';
create index if not exists steps_by_filler on steps (filler) where filler <> '';
create index if not exists steps_by_change on steps (changed);
create table if not exists performances (  -- modality performed procedure steps
    uid     text primary key,         -- SOP Instance UID
    status  text not null,
    content blob not null,            -- adapters.dicom.worklist.mpps.Content as JSON
    changed integer not null
) without rowid;
create index if not exists performances_by_change on performances (changed);
create table if not exists performed_studies (
    study text not null,
    uid   text not null,
    primary key (study, uid)
) without rowid;
create index if not exists performed_studies_by_step on performed_studies (uid);
create view if not exists mpps as select uid, study, status, content, changed from performed_studies join performances using (uid);
create table if not exists mpps_steps (   -- which steps a performed step performs
    uid       text not null,
    "order"   text not null,
    procedure text not null,
    position  text not null,
    primary key (uid, "order", procedure, position)
) without rowid;
create index if not exists mpps_steps_by_step on mpps_steps ("order", procedure, position);
create table if not exists performed (
    mpps      text not null,
    study     text not null,
    series    text not null,
    sop       text not null,          -- '' for the series itself
    sop_class text not null,
    status    text not null,          -- of the mpps
    primary key (mpps, study, series, sop)
) without rowid;
create index if not exists performed_by_study on performed (study);
create table if not exists heard (    -- what was answered to a message that may be delivered once more
    message integer primary key,
    answer  blob not null,
    at      integer not null
);
create index if not exists heard_by_time on heard (at);
create table if not exists changes (  -- messages that are still to be handed to their channel, oldest first
    id      integer primary key autoincrement,
    content blob not null
);
"""
KEEP: Final = """
insert into steps values (:order, :procedure, :position, :status, :start, :modality, :patient, :accession, :placer, :filler, :study,
:requested, :step, :content, :now) on conflict do update set status = :status, start = :start, modality = :modality, patient = :patient,
accession = :accession, placer = :placer, filler = :filler, study = :study, requested = :requested, step = :step,
content = :content, changed = :now"""
OPEN: Final = """
select content, status from steps where status in (select value from json_each(:statuses)) and start >= :first and start <= :last
and (:modality = '' or modality = :modality) and (:patient = '' or patient = :patient) and (:accession = '' or accession = :accession)
order by start, "order", procedure, position"""
OF_PATIENT: Final = """select content, status from steps where patient in (select value from json_each(:numbers))"""
LINKED: Final = """
select content, status from steps where (study = :study and (step = :step or :step = ''))
or (accession = :accession and :accession <> '' and step = :step and step <> '')"""
OF_ORDER: Final = """
select content, status from steps where "order" = :order and (:procedure = '' or procedure = :procedure or requested = :procedure)
and (:position = '' or position = :position or step = :position)"""
ORDERS: Final = """
select distinct "order" from steps where placer = :placer and placer <> '' and (filler = '' or :filler = '' or filler = :filler)
union select distinct "order" from steps where filler = :filler and filler <> '' and (placer = '' or :placer = '' or placer = :placer)
union select distinct "order" from steps where accession = :accession and accession <> '' and :placer = '' and :filler = '' order by 1"""
STATES: Final = """select m.status, m.content from mpps_steps s join performances m using (uid)
where s."order" = ? and s.procedure = ? and s.position = ?"""
OLD_STEPS: Final = """delete from steps where ("order", procedure, position) in
(select "order", procedure, position from steps where changed < ? and start < ? limit ?)"""
OLD_MPPS: Final = tuple(
    f"delete from {table} where {column} = ?"  # noqa: S608  names of ours
    for table, column in (("performed", "mpps"), ("performed_studies", "uid"), ("mpps_steps", "uid"), ("performances", "uid"))
)
