-- The demo's tables, as mysqldump --no-data writes them. The figures are invented.
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET NAMES utf8 */;

--
-- Table structure for table `coal_prod`
--

DROP TABLE IF EXISTS `coal_prod`;
CREATE TABLE `coal_prod` (
  `Entity` varchar(50) DEFAULT NULL,
  `Code` char(3) DEFAULT NULL,
  `Year` int(11) DEFAULT NULL,
  `Production` decimal(10,2) DEFAULT NULL,
  `consumption` decimal(10,2) DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

--
-- Table structure for table `fossil_capita`
--

DROP TABLE IF EXISTS `fossil_capita`;
CREATE TABLE `fossil_capita` (
  `Entity` varchar(50) DEFAULT NULL,
  `Code` char(3) DEFAULT NULL,
  `Year` int(11) DEFAULT NULL,
  `Coal` decimal(10,2) DEFAULT NULL,
  `Crude_oil` decimal(10,2) DEFAULT NULL,
  `Natural_gas` decimal(10,2) DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

--
-- Table structure for table `gas_prod`
--

DROP TABLE IF EXISTS `gas_prod`;
CREATE TABLE `gas_prod` (
  `Entity` varchar(50) DEFAULT NULL,
  `Code` char(3) DEFAULT NULL,
  `Year` int(11) DEFAULT NULL,
  `Production` decimal(10,2) DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

--
-- Table structure for table `oil_prod`
--

DROP TABLE IF EXISTS `oil_prod`;
CREATE TABLE `oil_prod` (
  `Entity` varchar(50) DEFAULT NULL,
  `Code` char(3) DEFAULT NULL,
  `Year` int(11) DEFAULT NULL,
  `Production` decimal(10,2) DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
