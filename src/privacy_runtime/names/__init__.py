"""The name models that come with the package: people, places, organisations, street addresses.

>>> from privacy_runtime import names
>>> [finding.label for finding in names.shipped().tag("Ask Anna Kowalska in Lisbon.")]
['PERSON', 'LOCATION']

`docs/name_models.md` is their model card: data, licences, sizes and scores. Nothing is downloaded.
"""

from privacy_runtime.names.shipping import NameModelDamaged, ShippedNames, shipped

__all__ = ["NameModelDamaged", "ShippedNames", "shipped"]
