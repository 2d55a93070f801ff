"""Texts of our own with marked names: clinics, banks, chats, e-mails, forms, and texts without any.

A template is a line with holes. Holes with a label make marks, the others are the traps of their
trade: drugs, diseases that are called after people, months, products, job titles, laws. Templates
are numbered; every tenth is kept back, so that a model is never scored on a template it has seen.
"""

# ruff: noqa: E501 -- a template is a line

from __future__ import annotations

import re
from collections.abc import Callable

from name_pools import Pool
from name_sets import ADDRESS, LOCATION, ORGANIZATION, PERSON, Document, lower, upper

CLINICAL = """
Patient: {listed}
Patient Name: {full}    MRN: {id}    DOB: {date}
PATIENT: {listed}\\nDOB: {date}\\nMRN: {id}\\nATTENDING: {title} {full}
Name: {listed}  Sex: {sex}  Age: {n}
{title} {sur} is a {n}-year-old {sexword} with a history of {disease} who presents with {symptom}.
{title} {sur} was started on {drug} {n} mg daily for {disease}.
Pt {given} c/o {symptom} x {n} days, taking {drug} and {drug}.
Seen by Dr. {sur} in the {ward} on {date}; plan discussed with the patient's {kin}, {given}.
Referred to Dr. {full} at {org} for {test}.
The patient lives in {place} with her {kin} {given} and two children.
{test} was positive. {sign} sign negative. {disease} suspected.
Dictated by: {full}, MD\\nTranscribed by: {initials}
cc: {title} {full}, {org}, {address}
Discharged to {org} in {place} under the care of {title} {sur}.
No known allergies to {drug}. Denies {symptom} and {symptom}.
History of {disease}, {disease} and {disease}. Medications: {drug}, {drug}, {drug}.
Attending Physician: {full}, M.D.\\nReferring: {listed}\\nPCP: {title} {sur}
{given} reports that {symptom} began in {month} after a trip to {place}.
Emergency contact: {full} ({kin}), {phone}
Home address: {address}
Admission Date: {date}\\nDischarge Date: {date}\\nService: {ward}
The {test} score was {n}. {drug} was discontinued in {month}.
Nurse {given} {sur} called {title} {sur} at {phone} about the {test} result.
{full} ({n} y/o {sexword}) was transferred from {org} to {org} on {date}.
Family history: mother with {disease}, father with {disease}.
Signed electronically by {full} on {date} at {org}.
I saw {given} in clinic today together with {poss} {kin}, {given}.
Specimen: {listed} / {id} / {ward}
Informe clínico del paciente: {full}, natural de {place}, remitido desde {org}.
Nombre: {given}.\\nApellidos: {sur} {sur}.\\nNHC: {id}.\\nDomicilio: {street}.\\nLocalidad: {place}.
Médico: {full} NºCol: {id}.
Remitido por: Dra. {full}. {org}. {street}. {place}.
Patiente {full}, née le {date} à {place}, suivie par le Dr {sur}.
Herr {sur}, {n} Jahre, wurde von Dr. {sur} aus {place} überwiesen.
"""
BUSINESS = """
Hi {given},\\n\\nThanks for your note. I spoke with {given} at {org} and we can meet in {place} on {day}.\\n\\nBest,\\n{given}
Dear {title} {sur},\\n\\nYour account with {org} was debited on {date}.\\n\\nSincerely,\\n{full}\\n{job}\\n{org}
From: {full}\\nTo: {full}; {full}\\nSubject: {product} rollout in {place}
From: {full} <{email}>\\nSent: {day}, {month} {n}\\nTo: {full}\\nCc: {listed}
-----Original Message-----\\nFrom: {listed}\\nSent: {day}, {date}\\nTo: {listed}; {listed}\\nSubject: RE: {product}
{given} from accounting will call {title} {sur} about invoice {id}.
Please wire the amount to {full} at {org}, {street}, {place}.
Beneficiary: {full}\\nBank: {org}\\nAddress: {address}
The contract between {org} and {org} was signed in {place} by {full}, {job}.
{org} announced that {full} will succeed {full} as {job}.
{full}, {job} of {org}, said the {place} office would close in {month}.
Ship to: {full}, {address}
Bill To\\n{full}\\n{address}
Let's use {product} for the call; {given} and {given} will dial in from {place}.
Our {product} subscription ends in {month}. {product} costs less than {product}.
{full} | {job} | {org} | {place}
Regards,\\n\\n{full}\\n{job}, {org}\\n{address}\\nTel: {phone}
Account holder {full} reported card {id} lost near {place}.
Ticket #{id}: customer {given} {sur} ({place}) cannot log in to {product}.
Assignee: {given}\\nReporter: {full}\\nLabels: {product}, billing
The merger of {org} with {org} needs approval in {place}.
{given} {sur} joined {org} in {month} as {job} and lives in {place}.
name,city,employer\\n{full},{place},{org}\\n{full},{place},{org}
{{"name": "{full}", "city": "{place}", "company": "{org}", "status": "active"}}
{{"customer": {{"first_name": "{given}", "last_name": "{sur}"}}, "address": "{street}"}}
Name: {full}\\nCompany: {org}\\nCity: {place}\\nPhone: {phone}
| {full} | {place} | {org} | {id} |
Attendees: {full}, {full}, {full} and {given}
Witness: {full}, resident of {street}, {place}.
The tenant, {full}, shall pay to the landlord, {full}, the sum of {n} dollars.
{full} v. {org}, judgment of {date}
The applicant, {title} {full}, is a national of {place} and was represented by {title} {sur}, a lawyer practising in {place}.
{org} is the brainchild of our founders: {sur}, {sur} and {sur}.
{org} is a {nat} manufacturer of {product} parts.
I used to work for {org} as {job}, but quit.
The {org} Orchestra was founded in {place}.
The address of {org} is {address}
The billing address for this card is {address}.
{full}\n{org}\n{address}\n{phone} office\n{phone} fax
> {full}\n> {org}\n> {street}\n> {place}
Thanks,\n{given}\n{full}\n{org}
{org} said on {day} that its {place} refinery would stay shut after Hurricane {stormname}.
Hurricane {stormname} moved across the {place} on {day}; {org} closed its plants.
The {nat} leadership met {nat} officials in {place}, {title} {sur} told {org}.
{place} ({org}) - {full}, a spokesman for {org}, denied the report.
President {sur} and Prime Minister {sur} will meet in {place} on {day}.
{sur} scored twice as {org} beat {org} in {place}.
Meeting notes {date}: {given} to follow up with {org}; {given} owns the {product} migration.
"""
CHAT = """
hey {given}, are you still coming to {place} this weekend?
{given}: did you talk to {given}?\\n{given}: yes, she is in {place} now
my name is {full} and i live in {place}
I'm {given}, nice to meet you. I work for {org}.
User: My name is {full}. Can you check the order to {street}?\\nAssistant: Of course, {given}.
User: who was {full}?\\nAssistant: {full} was born in {place}.
thanks {given}! say hi to {given} and the kids
i went to {org} in {place} and the staff was awful, ask for {given}
{given} is my {kin} and {given} is my {kin}
can i please speak to {given}?
yes, this is {full} calling from {org}
ok so {given} told me that {sur} quit {org} lol
I moved from {place} to {place} last {month}.
We flew from {place} to {place} via {place}.
The best pizza in {place}! {given} at the front desk was so helpful.
Happy birthday {given}!!!
Does anyone know a good dentist in {place}? Dr. {sur} retired.
My {kin} {given} has {disease} and takes {drug}.
May I ask what {product} costs in {month}?
I will mark the page and frank the letter, then bill you in {month}.
Will you be there in {month}? Hope so! Grace and faith and joy to all.
Please contact {given} or {given} at {phone}.
{full} lives at {street}, {place}.
Remind me to call {given} {sur} on {day} about {org}.
[Call] {full} () -- {place}
[SMS] {full}: I am at {org}, see you at {n}.
{given}'s flight to {place} was cancelled, so {given} drove.
Have you seen {given}'s {kin}? He works at {org}.
said {given} to {given}
The bus station is on {street}
the restaurant is at {street}
How do I get to {street}?
@{given} lol {org} is down again
just landed in {place} w/ {given} n {given}
Best place in {place}, ask for {given}. Better than {org}!
{org} sucks, {org} is cheaper
Who is {full}? I met {given} in {place}.
"""
PLAIN = """
The {test} and the {test} were repeated; {disease} was ruled out.
Monday and Tuesday are fine, Wednesday is not; {month} is busy.
I have {disease}. My doctor gave me {drug} and {drug}.
What are my options? Can I return the {product} I bought?
The Committee shall inform the Commission under Article {n} of the Convention.
Open Settings, choose Privacy and Security, then click Reset Password.
ERROR: Connection refused while loading module Parser in line {n}.
The English and French versions differ; German and Spanish readers complained.
Christmas and Easter are holidays; Ramadan begins in {month}.
PAST MEDICAL HISTORY: {disease}. ASSESSMENT AND PLAN: Continue {drug}.
Use {product} with {product}; install Python and restart Docker.
Dear Sir or Madam, please find attached the Invoice and the Terms and Conditions.
Chief Complaint: {symptom}. Review of Systems: negative. Vital Signs: stable.
Total Amount Due: {n}.00. Payment Method: Credit Card. Thank You!
I need to change my address. Is there a fee for that?
Bill the client. Mark the date. Will the rose bloom in May? Drew a blank.
Dear Customer Service, Your Reference {id}, Order Status: Shipped
The Senior {job} and the Chief {job} met the Director of Sales.
The {nat} and {nat} delegations speak {nat}; {nat} food is served.
Hurricane {stormname} and Tropical Storm {stormname} were downgraded.
The Bible, the Quran, Windows, Excel and the Internet are mentioned in Chapter {n}.
{sign} sign was negative, {test} unchanged, {disease} stable on {drug}.
Paciente que presenta {symptom}; se inicia tratamiento con {drug}.
El Tribunal consideró que el Gobierno no había presentado observaciones.
La Cour rappelle que la Convention ne garantit pas un tel droit.
"""
STYLES = {"clinical": CLINICAL, "business": BUSINESS, "chat": CHAT, "plain": PLAIN}
_WORDS = {
    "drug": "metformin Lipitor Lisinopril warfarin Plavix Zoloft Prozac Xanax Tylenol Advil Keppra "
    "Lasix Coumadin Humira Ozempic Metoprolol Amoxicillin Vancomycin Heparin Prednisone Synthroid "
    "Nexium Crestor Januvia Eliquis Xarelto Gabapentin Tramadol Ibuprofen Paracetamol Augmentin",
    "disease": "Parkinson's_disease Alzheimer's Crohn's_disease Hodgkin's_lymphoma diabetes_mellitus "
    "Huntington's_disease Graves'_disease Addison's_disease Cushing's_syndrome Marfan_syndrome "
    "Hashimoto's_thyroiditis Down_syndrome Bell's_palsy Barrett's_esophagus Sjögren's_syndrome COPD "
    "Raynaud's_phenomenon Wilson's_disease Turner_syndrome Guillain-Barré_syndrome hypertension CHF "
    "Kaposi_sarcoma Lyme_disease Asperger's Tourette_syndrome Ménière's_disease Lou_Gehrig's_disease "
    "atrial_fibrillation Paget's_disease Kawasaki_disease Legionnaires'_disease Lewy_body_dementia",
    "test": "Glasgow_Coma_Scale Apgar_score Doppler Gram_stain Holter_monitor Pap_smear Romberg_test "
    "MRI CT_scan ECG Beck_Depression_Inventory Mini-Mental_State_Examination Foley_catheter "
    "Wells_score Rinne_test Ranson_criteria X-ray Child-Pugh_score Allen_test Apgar Snellen_chart",
    "sign": "Babinski Murphy's McBurney's Homan's Kernig's Tinel's Brudzinski's Phalen's Hoffmann's",
    "symptom": "chest_pain headache fever cough nausea abdominal_pain dizziness back_pain fatigue "
    "shortness_of_breath blurred_vision dolor_abdominal fiebre",
    "product": "Excel Windows iPhone Outlook Photoshop Android Kindle PlayStation Galaxy Chrome Zoom "
    "Slack Jira Corolla Civic Camry Golf Bluetooth Wi-Fi PowerPoint Teams Alexa Siri Linux Python "
    "Mustang Beetle Java Ruby Jenkins Kafka Cassandra Tesla_Model_3 Nescafé Nutella Adidas_Samba",
    "nat": "German French Spanish Italian British American Israeli Palestinian Chinese Japanese Indian "
    "Russian Turkish Polish Dutch Swedish African-American Mexican Brazilian Korean Iraqi Iranian Greek",
    "stormname": "Katrina Rita Wilma Sandy Ivan Harvey Irma Maria Ian Andrew Hugo Camille Ike",
    "month": "January February March April May June July August September October November December",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "job": "Manager Director CEO Vice_President Accountant Engineer Counsel Chairman Treasurer Nurse "
    "Sales_Executive Head_of_Legal Software_Developer Project_Lead Secretary Partner Analyst",
    "kin": "wife husband mother father sister brother son daughter uncle aunt cousin grandmother friend",
    "ward": "ICU Orthopedics Cardiology Emergency_Department Oncology Neurology Radiology Pediatrics",
    "sex": "M F Male Female",
    "sexword": "man woman male female boy girl gentleman lady",
    "poss": "his her their",
}
_CHOICES = {hole: [w.replace("_", " ") for w in words.split()] for hole, words in _WORDS.items()}
_LABELS = {
    **dict.fromkeys(("full", "given", "sur", "listed"), PERSON),
    "place": LOCATION,
    "org": ORGANIZATION,
    "street": ADDRESS,
    "address": ADDRESS,
}


class Writer:
    """Fills templates from a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._random = pool.random
        self._makers: dict[str, Callable[[], str]] = {
            "full": pool.full,
            "given": pool.given,
            "sur": pool.surname,
            "listed": pool.listed,
            "place": pool.place,
            "org": pool.organisation,
            "street": pool.street,
            "address": pool.address,
            "title": pool.title,
            "id": lambda: str(self._random.randrange(10**4, 10**9)),
            "n": lambda: str(self._random.randrange(1, 100)),
            "phone": lambda: pool.faker().phone_number(),
            "email": lambda: pool.faker().email(),
            "initials": lambda: "".join(self._random.choices("abcdefgjklmnprst", k=2)),
            "date": self._date,
        }

    def documents(self, count: int, *, held_out: bool) -> list[Document]:
        """Texts of one to six lines of one style, from the templates that are (not) kept back."""
        templates = {
            style: [
                line.replace("\\n", "\n")
                for k, line in enumerate(block.strip().split("\n"))
                if (k % 10 == 7) == held_out
            ]
            for style, block in STYLES.items()
        }
        made = []
        for k in range(count):
            style = self._random.choice(("clinical", "business", "chat", "clinical", "business"))
            lines = templates[style] + templates["plain"][: len(templates[style]) // 2]
            document = self._document(f"template-{held_out}-{k}", self._random.choices(lines, k=3))
            draw = self._random.random()
            if draw < (0.4 if style == "chat" else 0.1):
                document = lower(document)
            elif draw > 0.9:
                document = upper(document)
            made.append(document)
        return made

    def _document(self, name: str, lines: list[str]) -> Document:
        text = ""
        spans: list[tuple[int, int, str]] = []
        for line in lines[: self._random.randrange(1, 4)]:
            gap = self._random.choice(("\n", "\n", "\n\n", " "))
            text += gap if text else ""
            for part in re.split(r"(\{\w+\})", line.replace("{{", "\x01").replace("}}", "\x02")):
                hole = part[1:-1]
                if part[:1] != "{":
                    text += part.replace("\x01", "{").replace("\x02", "}")
                    continue
                value = self._value(hole)
                if hole in _LABELS:
                    spans.append((len(text), len(text) + len(value), _LABELS[hole]))
                text += value
        return Document(name, "templates", text, tuple(spans), name.startswith("template-True"))

    def _value(self, hole: str) -> str:
        if hole in _CHOICES:
            return self._random.choice(_CHOICES[hole])
        return self._makers[hole]()

    def _date(self) -> str:
        day, month, year = (
            self._random.randrange(1, 29),
            self._random.randrange(1, 13),
            self._random.randrange(1930, 2027),
        )
        shape = self._random.choice(
            ("{m}/{d}/{y}", "{d}.{m}.{y}", "{y}-{m:02d}-{d:02d}", "{w} {d}, {y}")
        )
        return shape.format(m=month, d=day, y=year, w=_CHOICES["month"][month - 1])
