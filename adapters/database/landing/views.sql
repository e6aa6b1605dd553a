-- What an analyst would ask first. Plain SQL that PostgreSQL, MariaDB and SQLite read alike; {s} is the schema's name with its point.
-- Each view follows its name and what it is for, in a comment of the form: view NAME: TEXT

-- view v_result: results flat, one row for each value: observations and their components, with the patient and the order.
SELECT o.id AS observation_id, 0 AS component, o.version, o.seq, o.status, o.subject_id AS patient_id, p.name_text AS patient_name_text,
       p.family AS patient_family, p.given AS patient_given, o.encounter_id, o.based_on_id AS order_id, o.category_code,
       o.code_system, o.code, o.code_display, o.code_text, o.effective, o.effective_from, o.issued_from,
       o.value, o.value_text, o.value_comparator, o.value_unit, o.value_concept_system, o.value_concept_code, o.value_concept_display,
       o.value_integer, o.value_boolean, o.value_time, o.value_low, o.value_high, o.value_numerator, o.value_denominator,
       COALESCE(o.value_string, o.value_concept_text, o.value_concept_display, o.value_text, o.value_time) AS value_shown,
       o.interpretation_code, o.reference_low, o.reference_high, o.reference_text, o.sender, o.received_at
FROM {s}observation o LEFT JOIN {s}patient p ON p.id = o.subject_id
WHERE NOT o.deleted
UNION ALL
SELECT o.id, c.number, o.version, o.seq, o.status, o.subject_id, p.name_text, p.family, p.given, o.encounter_id, o.based_on_id,
       o.category_code, c.code_system, c.code, c.code_display, c.code_text, o.effective, o.effective_from, o.issued_from,
       c.value, c.value_text, c.value_comparator, c.value_unit, c.value_concept_system, c.value_concept_code, c.value_concept_display,
       c.value_integer, c.value_boolean, c.value_time, c.value_low, c.value_high, NULL, NULL,
       COALESCE(c.value_string, c.value_concept_text, c.value_concept_display, c.value_text, c.value_time),
       c.interpretation_code, c.reference_low, c.reference_high, c.reference_text, o.sender, o.received_at
FROM {s}observation_component c JOIN {s}observation o ON o.id = c.resource_id LEFT JOIN {s}patient p ON p.id = o.subject_id
WHERE NOT o.deleted;

-- view v_latest_result: the latest result of each test of each patient that is not cancelled or entered in error.
SELECT * FROM (
    SELECT r.*, ROW_NUMBER() OVER (
        PARTITION BY r.patient_id, r.code_system, COALESCE(r.code, r.code_text)
        ORDER BY r.effective_from IS NULL, r.effective_from DESC, r.seq DESC, r.component) AS place
    FROM {s}v_result r
    WHERE r.patient_id IS NOT NULL AND r.status NOT IN ('cancelled', 'entered-in-error')
) ranked WHERE place = 1;

-- view v_encounter_timeline: encounters of each patient in order of time, with the stay and the place.
SELECT e.subject_id AS patient_id, p.family AS patient_family, p.given AS patient_given, p.name_text AS patient_name_text,
       ROW_NUMBER() OVER (PARTITION BY e.subject_id ORDER BY e.period_start_from IS NULL, e.period_start_from, e.id) AS visit,
       e.id AS encounter_id, e.status, e.class_code, e.type_code, e.type_display, e.period_start, e.period_start_from, e.period_end,
       e.period_end_from, l.name AS location_name, o.name AS service_provider_name, e.reason_code, e.reason_text, e.sender, e.received_at
FROM {s}encounter e
LEFT JOIN {s}patient p ON p.id = e.subject_id
LEFT JOIN {s}location l ON l.id = e.location_id
LEFT JOIN {s}organization o ON o.id = e.service_provider_id
WHERE NOT e.deleted;

-- view v_order_report: orders with the reports that answer them; orders without a report have NULL there.
SELECT s.id AS order_id, s.placer, s.filler, s.accession, s.status AS order_status, s.subject_id AS patient_id, s.encounter_id,
       s.code_system, s.code, s.code_display, s.category_code, s.authored_on, s.authored_on_from,
       r.id AS report_id, r.status AS report_status, r.issued, r.issued_from, r.conclusion,
       (SELECT COUNT(*) FROM {s}diagnostic_report_result x WHERE x.resource_id = r.id) AS results
FROM {s}service_request s
LEFT JOIN {s}diagnostic_report_based_on b ON b.request_id = s.id AND b.request_type = 'ServiceRequest'
LEFT JOIN {s}diagnostic_report r ON r.id = b.resource_id AND NOT r.deleted
WHERE NOT s.deleted;

-- view v_imaging: imaging studies of each patient, with what has arrived of them and their report.
SELECT i.subject_id AS patient_id, i.id AS study_id, i.study_instance_uid, i.accession, i.status, i.started, i.started_from, i.description,
       i.modality_code,
       (SELECT COUNT(*) FROM {s}imaging_series x WHERE x.resource_id = i.id) AS series_landed,
       (SELECT COUNT(*) FROM {s}imaging_instance x WHERE x.resource_id = i.id) AS instances_landed,
       i.series_count, i.instance_count, r.resource_id AS report_id, i.sender, i.received_at
FROM {s}imaging_study i
LEFT JOIN {s}diagnostic_report_imaging_study r ON r.study_id = i.id
WHERE NOT i.deleted;

-- view v_document: documents of each patient, references and structured documents together.
SELECT d.subject_id AS patient_id, 'DocumentReference' AS resource_type, d.id, d.status, d.type_system, d.type_code, d.type_display,
       d.type_text, d.description AS title, d.document_date, d.document_date_from, d.author_id, d.author_text, d.content_type, d.url,
       d.master_value, d.encounter_id, d.sender, d.received_at
FROM {s}document_reference d WHERE NOT d.deleted
UNION ALL
SELECT c.subject_id, 'Composition', c.id, c.status, c.type_system, c.type_code, c.type_display, c.type_text, c.title, c.document_date,
       c.document_date_from, c.author_id, c.author_text, NULL, NULL, NULL, c.encounter_id, c.sender, c.received_at
FROM {s}composition c WHERE NOT c.deleted;

-- view v_medication: what each patient was prescribed, takes and was given.
SELECT m.subject_id AS patient_id, 'MedicationRequest' AS resource_type, m.id, m.status, m.medication_system, m.medication_code,
       m.medication_display, m.medication_text, m.medication_reference_id, m.authored_on AS at_time, m.authored_on_from AS at_from,
       m.dosage_text, m.dose, m.dose_text, m.dose_unit, m.route_code, m.encounter_id, m.sender, m.received_at
FROM {s}medication_request m WHERE NOT m.deleted
UNION ALL
SELECT m.subject_id, 'MedicationStatement', m.id, m.status, m.medication_system, m.medication_code, m.medication_display, m.medication_text,
       m.medication_reference_id, m.effective, m.effective_from, m.dosage_text, m.dose, m.dose_text, m.dose_unit, m.route_code,
       m.context_id, m.sender, m.received_at
FROM {s}medication_statement m WHERE NOT m.deleted
UNION ALL
SELECT m.subject_id, 'MedicationAdministration', m.id, m.status, m.medication_system, m.medication_code, m.medication_display,
       m.medication_text, m.medication_reference_id, m.effective, m.effective_from, m.dosage_text, m.dose, m.dose_text, m.dose_unit,
       m.route_code, m.context_id, m.sender, m.received_at
FROM {s}medication_administration m WHERE NOT m.deleted;

-- view v_variant: genetic variants of each patient that were found.
SELECT v.subject_id AS patient_id, v.resource_id AS observation_id, v.status, v.presence_code, v.gene_code, v.gene_display, v.assembly_code,
       v.chromosome_code, v.start_position, v.end_position, v.ref_allele, v.alt_allele, v.hgvs_coding_code, v.hgvs_protein_code,
       v.variant_id_code, v.variant_id_system, v.allelic_state_code, v.source_class_code, v.allele_frequency, v.allele_frequency_text, v.seq
FROM {s}genomic_variant v;

-- view v_daily: how many messages and new versions of resources came, for each day, sender and type of resource.
SELECT m.received_day, m.sender, v.resource_type, COUNT(DISTINCT m.landing) AS messages, COUNT(*) AS versions,
       SUM(CASE WHEN v.version = 1 THEN 1 ELSE 0 END) AS created, SUM(CASE WHEN v.deleted THEN 1 ELSE 0 END) AS deleted
FROM {s}landed_message m JOIN {s}resource_version v ON v.landing = m.landing
GROUP BY m.received_day, m.sender, v.resource_type;
