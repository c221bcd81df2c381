"""Which objects and fields the organisation has, and how `describe` shows them.

The standard fields of Contact are those of a recorded describe. What a user may see of them is decided by
`organisation.User`; what values they hold is `table`.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

_ARROW_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "currency": pa.float64(),
    "percent": pa.float64(),
    "int": pa.int64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("s", tz="UTC"),
}
_SOAP_TYPES = {
    "boolean": "xsd:boolean",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "int": "xsd:int",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "id": "tns:ID",
    "reference": "tns:ID",
    "address": "urn:address",
}
_TEXT_TYPES = {"string", "email", "phone", "url", "textarea", "picklist", "multipicklist"}


@dataclass(frozen=True)
class Field:
    """One field of an object. `formula` names the function that computes it, see `reader`."""

    name: str
    type: str = "string"
    label: str = ""
    length: int = 0
    nillable: bool = True
    writable: bool = True
    filterable: bool = True
    compound: str | None = None
    extra_type: str | None = None
    name_field: bool = False
    id_lookup: bool = False
    external_id: bool = False
    precision: int = 0
    scale: int = 0
    references: str | None = None
    relationship: str | None = None
    values: tuple[str, ...] = ()
    formula: str | None = None
    default: bool | None = None

    @property
    def custom(self) -> bool:
        """Whether an administrator made this field."""
        return self.name.endswith("__c")

    @property
    def arrow_type(self) -> pa.DataType:
        """How its values are kept."""
        return _ARROW_TYPES.get(self.type, pa.string())

    @property
    def is_text(self) -> bool:
        """Whether its values are compared as text, without regard to case."""
        return self.type in _TEXT_TYPES

    @property
    def is_id(self) -> bool:
        """Whether its values are record ids."""
        return self.type in {"id", "reference"}

    def describe(self) -> dict[str, Any]:
        """The field's entry in the object's describe."""
        long_text = self.type == "textarea" and self.length > 255
        simple = not long_text and self.type != "address"
        return {
            "aggregatable": simple and self.type != "boolean",
            "aiPredictionField": False,
            "autoNumber": False,
            "byteLength": self.length if self.is_id else self.length * 3,
            "calculated": self.formula is not None,
            "calculatedFormula": self.formula,
            "cascadeDelete": False,
            "caseSensitive": False,
            "compoundFieldName": self.compound,
            "controllerName": None,
            "createable": self.writable,
            "custom": self.custom,
            "defaultValue": self.default,
            "defaultValueFormula": None,
            "defaultedOnCreate": self.type == "id" or self.default is not None or self.name in _STAMPS,
            "dependentPicklist": False,
            "deprecatedAndHidden": False,
            "digits": 9 if self.type == "int" else 0,
            "displayLocationInDecimal": False,
            "encrypted": False,
            "externalId": self.external_id,
            "extraTypeInfo": self.extra_type,
            "filterable": self.filterable,
            "filteredLookupInfo": None,
            "formulaTreatNullNumberAsZero": False,
            "groupable": simple and self.type not in {"datetime", "double"} and self.formula is None,
            "highScaleNumber": False,
            "htmlFormatted": False,
            "idLookup": self.id_lookup,
            "inlineHelpText": None,
            "label": self.label or _label_of(self.name),
            "length": self.length,
            "mask": None,
            "maskType": None,
            "name": self.name,
            "nameField": self.name_field,
            "namePointing": False,
            "nillable": self.nillable,
            "permissionable": self.nillable and self.type != "id",
            "picklistValues": [_describe_value(value) for value in self.values],
            "polymorphicForeignKey": False,
            "precision": self.precision,
            "queryByDistance": self.type == "address",
            "referenceTargetField": None,
            "referenceTo": [self.references] if self.references else [],
            "relationshipName": self.relationship,
            "relationshipOrder": None,
            "restrictedDelete": False,
            "restrictedPicklist": False,
            "scale": self.scale,
            "searchPrefilterable": self.type == "reference",
            "soapType": _SOAP_TYPES.get(self.type, "xsd:string"),
            "sortable": simple,
            "type": self.type,
            "unique": False,
            "updateable": self.writable,
            "writeRequiresMasterRead": False,
        }


@dataclass(frozen=True)
class ObjectSchema:
    """One object: its fields by name (in the order of describe), and what else describe says of it."""

    name: str
    plural: str
    prefix: str
    fields: dict[str, Field]
    mergeable: bool = True
    scopes: tuple[str, ...] = ("everything", "mine", "scopingRule", "team")
    by_lower_name: dict[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_lower_name", {name.lower(): one for name, one in self.fields.items()})

    def without(self, name: str) -> "ObjectSchema":
        """The object after an administrator deleted a field."""
        return replace(self, fields={key: one for key, one in self.fields.items() if key.lower() != name.lower()})

    def with_field(self, added: Field) -> "ObjectSchema":
        """The object after an administrator added a field."""
        return replace(self, fields={**self.fields, added.name: added})

    def relationship(self, name: str) -> Field | None:
        """The reference field behind a parent relationship such as `Account` or `Owner`."""
        return next((one for one in self.fields.values() if (one.relationship or "").lower() == name.lower()), None)

    def summary(self, base: str) -> dict[str, Any]:
        """The object's entry in the list of objects."""
        address = f"{base}/sobjects/{self.name}"
        urls = {
            "compactLayouts": f"{address}/describe/compactLayouts",
            "describe": f"{address}/describe",
            "layouts": f"{address}/describe/layouts",
            "listviews": f"{address}/listviews",
            "rowTemplate": f"{address}/{{ID}}",
            "sobject": address,
        }
        return {
            "activateable": False,
            "associateEntityType": None,
            "associateParentEntity": None,
            "createable": True,
            "custom": False,
            "customSetting": False,
            "deepCloneable": False,
            "deletable": True,
            "deprecatedAndHidden": False,
            "feedEnabled": True,
            "hasSubtypes": False,
            "isInterface": False,
            "isSubtype": False,
            "keyPrefix": self.prefix,
            "label": self.name,
            "labelPlural": self.plural,
            "layoutable": True,
            "mergeable": self.mergeable,
            "mruEnabled": True,
            "name": self.name,
            "queryable": True,
            "replicateable": True,
            "retrieveable": True,
            "searchable": True,
            "triggerable": True,
            "undeletable": True,
            "updateable": True,
            "urls": urls,
        }

    def describe(self, base: str, hidden: set[str]) -> dict[str, Any]:
        """The whole describe, without the fields that the connected user may not read."""
        master = {
            "active": True,
            "available": True,
            "defaultRecordTypeMapping": True,
            "developerName": "Master",
            "master": True,
            "name": "Master",
            "recordTypeId": "012000000000000AAA",
            "urls": {"layout": f"{base}/sobjects/{self.name}/describe/layouts/012000000000000AAA"},
        }
        return {
            **self.summary(base),
            "actionOverrides": [],
            "childRelationships": [],
            "compactLayoutable": True,
            "defaultImplementation": None,
            "extendedBy": None,
            "extendsInterfaces": None,
            "fields": [one.describe() for one in self.fields.values() if one.name not in hidden],
            "implementedBy": None,
            "implementsInterfaces": None,
            "listviewable": None,
            "lookupLayoutable": None,
            "namedLayoutInfos": [],
            "networkScopeFieldName": None,
            "recordTypeInfos": [master],
            "searchLayoutable": True,
            "sobjectDescribeOption": "FULL",
            "supportedScopes": [{"label": scope, "name": scope} for scope in self.scopes],
        }


def _label_of(name: str) -> str:
    """`MailingPostalCode` → `Mailing Postal Code`, `Level_Text__c` → `Level Text`."""
    words = name.removesuffix("__c").replace("_", " ")
    return "".join(
        f" {letter}" if place and letter.isupper() and words[place - 1].islower() else letter
        for place, letter in enumerate(words)
    )


def _describe_value(value: str) -> dict[str, Any]:
    return {"active": True, "defaultValue": False, "label": value, "validFor": None, "value": value}


_STAMPS = {
    "OwnerId",
    "CreatedDate",
    "CreatedById",
    "LastModifiedDate",
    "LastModifiedById",
    "SystemModstamp",
    "IsDeleted",
}
_ACCURACIES = (
    "Address",
    "NearAddress",
    "Block",
    "Street",
    "ExtendedZip",
    "Zip",
    "Neighborhood",
    "City",
    "County",
    "State",
    "Unknown",
)
_CLEAN = ("Matched", "Different", "Acknowledged", "NotFound", "Inactive", "Pending", "SelectMatch", "Skipped")


def _reference(name: str, to: str, relationship: str, **more: Any) -> Field:
    return Field(name, "reference", length=18, references=to, relationship=relationship, **more)


def _address(prefix: str) -> list[Field]:
    compound = f"{prefix}Address"
    return [
        Field(f"{prefix}Street", "textarea", length=255, compound=compound, extra_type="plaintextarea"),
        Field(f"{prefix}City", length=40, compound=compound),
        Field(f"{prefix}State", length=80, compound=compound),
        Field(f"{prefix}PostalCode", length=20, compound=compound),
        Field(f"{prefix}Country", length=80, compound=compound),
        Field(f"{prefix}Latitude", "double", precision=18, scale=15, compound=compound),
        Field(f"{prefix}Longitude", "double", precision=18, scale=15, compound=compound),
        Field(f"{prefix}GeocodeAccuracy", "picklist", length=40, compound=compound, values=_ACCURACIES),
        Field(compound, "address", writable=False),
    ]


def _system(owner_relationship: str = "Owner") -> list[Field]:
    return [
        _reference("OwnerId", "User", owner_relationship, nillable=False),
        Field("CreatedDate", "datetime", nillable=False, writable=False),
        _reference("CreatedById", "User", "CreatedBy", nillable=False, writable=False),
        Field("LastModifiedDate", "datetime", nillable=False, writable=False),
        _reference("LastModifiedById", "User", "LastModifiedBy", nillable=False, writable=False),
        Field("SystemModstamp", "datetime", nillable=False, writable=False),
        Field("LastActivityDate", "date", writable=False),
    ]


def _schema(name: str, plural: str, prefix: str, fields: list[Field], **more: Any) -> ObjectSchema:
    return ObjectSchema(name, plural, prefix, {one.name: one for one in fields}, **more)


CONTACT = _schema(
    "Contact",
    "Contacts",
    "003",
    [
        Field("Id", "id", length=18, nillable=False, writable=False, id_lookup=True, label="Contact ID"),
        Field("IsDeleted", "boolean", nillable=False, writable=False, default=False),
        _reference("MasterRecordId", "Contact", "MasterRecord", writable=False),
        _reference("AccountId", "Account", "Account", label="Account ID"),
        Field("LastName", length=80, nillable=False, compound="Name", extra_type="personname"),
        Field("FirstName", length=40, compound="Name", extra_type="personname"),
        Field(
            "Salutation",
            "picklist",
            length=40,
            compound="Name",
            extra_type="personname",
            values=("Mr.", "Ms.", "Mrs.", "Dr.", "Prof."),
        ),
        Field(
            "Name",
            length=121,
            nillable=False,
            writable=False,
            name_field=True,
            extra_type="personname",
            label="Full Name",
        ),
        *_address("Other"),
        *_address("Mailing"),
        Field("Phone", "phone", length=40, label="Business Phone"),
        Field("Fax", "phone", length=40),
        Field("MobilePhone", "phone", length=40),
        Field("HomePhone", "phone", length=40),
        Field("OtherPhone", "phone", length=40),
        Field("AssistantPhone", "phone", length=40),
        _reference("ReportsToId", "Contact", "ReportsTo"),
        Field("Email", "email", length=80, id_lookup=True),
        Field("Title", length=128),
        Field("Department", length=80),
        Field("AssistantName", length=40),
        Field(
            "LeadSource",
            "picklist",
            length=255,
            values=("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"),
        ),
        Field("Birthdate", "date"),
        Field("Description", "textarea", length=32000, filterable=False, extra_type="plaintextarea"),
        *_system(),
        Field("LastCURequestDate", "datetime", writable=False),
        Field("LastCUUpdateDate", "datetime", writable=False),
        Field("LastViewedDate", "datetime", writable=False),
        Field("LastReferencedDate", "datetime", writable=False),
        Field("EmailBouncedReason", length=255, writable=False),
        Field("EmailBouncedDate", "datetime", writable=False),
        Field("IsEmailBounced", "boolean", nillable=False, writable=False, default=False),
        Field("PhotoUrl", "url", length=255, writable=False),
        Field("Jigsaw", length=20),
        Field("JigsawContactId", length=20, writable=False),
        Field("CleanStatus", "picklist", length=40, values=_CLEAN),
        _reference("IndividualId", "Individual", "Individual"),
        Field("Tier__c", "picklist", length=255, values=("Gold", "Silver", "Bronze")),
        Field("Score__c", "double", precision=18, scale=2),
        Field("Newsletter__c", "boolean", nillable=False, default=False),
        Field("Renewal__c", "datetime"),
        Field("Twitter__c", length=80),
        Field("LinkedIn__c", "url", length=255),
        Field("Interests__c", "multipicklist", length=4099, values=("Product", "Events", "Research", "Training")),
        Field("Level_Text__c", length=40),
        Field("Account_Label__c", length=1300, writable=False, formula='Account.Name & " – " & Account.BillingCountry'),
    ],
)

ACCOUNT = _schema(
    "Account",
    "Accounts",
    "001",
    [
        Field("Id", "id", length=18, nillable=False, writable=False, id_lookup=True, label="Account ID"),
        Field("IsDeleted", "boolean", nillable=False, writable=False, default=False),
        _reference("MasterRecordId", "Account", "MasterRecord", writable=False),
        Field("Name", length=255, nillable=False, name_field=True, label="Account Name"),
        Field("Type", "picklist", length=255, values=("Prospect", "Customer", "Partner", "Competitor", "Other")),
        _reference("ParentId", "Account", "Parent"),
        *_address("Billing"),
        *_address("Shipping"),
        Field("Phone", "phone", length=40),
        Field("Fax", "phone", length=40),
        Field("AccountNumber", length=40),
        Field("Website", "url", length=255),
        Field("PhotoUrl", "url", length=255, writable=False),
        Field("Sic", length=20),
        Field("Industry", "picklist", length=255),
        Field("AnnualRevenue", "currency", precision=18),
        Field("NumberOfEmployees", "int", label="Employees"),
        Field("Ownership", "picklist", length=255, values=("Public", "Private", "Subsidiary", "Other")),
        Field("TickerSymbol", length=20),
        Field("Description", "textarea", length=32000, filterable=False, extra_type="plaintextarea"),
        Field("Rating", "picklist", length=255, values=("Hot", "Warm", "Cold")),
        Field("Site", length=80),
        *_system(),
        Field("LastViewedDate", "datetime", writable=False),
        Field("LastReferencedDate", "datetime", writable=False),
        Field("Jigsaw", length=20),
        Field("JigsawCompanyId", length=20, writable=False),
        Field("CleanStatus", "picklist", length=40, values=_CLEAN),
        Field("AccountSource", "picklist", length=255),
        Field("DunsNumber", length=9),
        Field("Tradestyle", length=255),
        Field("NaicsCode", length=8),
        Field("NaicsDesc", length=120),
        Field("YearStarted", length=4),
        Field("SicDesc", length=80),
        Field("Logo__c", "url", length=255),
        Field("Region__c", "picklist", length=255, values=("Americas", "EMEA", "APAC")),
        Field("Customer_Since__c", "date"),
    ],
)

USER = _schema(
    "User",
    "Users",
    "005",
    [
        Field("Id", "id", length=18, nillable=False, writable=False, id_lookup=True),
        Field("Username", length=80, nillable=False),
        Field("Name", length=121, nillable=False, name_field=True),
        Field("Alias", length=8, nillable=False),
        Field("Email", "email", length=128, nillable=False),
        Field("IsActive", "boolean", nillable=False, default=True),
    ],
    mergeable=False,
    scopes=("everything",),
)

ORGANIZATION = _schema(
    "Organization",
    "Organizations",
    "00D",
    [
        Field("Id", "id", length=18, nillable=False, writable=False),
        Field("Name", length=80, nillable=False, name_field=True),
        Field("IsSandbox", "boolean", nillable=False, writable=False, default=False),
    ],
    mergeable=False,
    scopes=("everything",),
)

LIST_VIEW = _schema(
    "ListView",
    "List Views",
    "00B",
    [
        Field("Id", "id", length=18, nillable=False, writable=False),
        Field("Name", length=80, nillable=False, name_field=True),
        Field("DeveloperName", length=80),
        Field("SobjectType", "picklist", length=40),
        Field("IsSoqlCompatible", "boolean", nillable=False, writable=False),
    ],
    mergeable=False,
    scopes=("everything",),
)
